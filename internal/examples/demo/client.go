package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// client calls one service process and tells the checker and the collector of
// every answer.
type client struct {
	process int
	base    string // URL
	http    *http.Client
	check   *checker
	collect *collector
}

// requestLimit ends a request. No promise allows a read to take that long.
const requestLimit = 10 * time.Second

func newClients(addrs []string, transport http.RoundTripper, check *checker, collect *collector) []*client {
	clients := make([]*client, len(addrs))
	for i, addr := range addrs {
		clients[i] = &client{
			process: i, base: "http://" + addr, check: check, collect: collect,
			http: &http.Client{Transport: transport, Timeout: requestLimit},
		}
	}
	return clients
}

// sample is what is kept of one read.
type sample struct {
	sent    time.Time
	process int
	source  source
	http    time.Duration // as its client saw it
	cache   time.Duration // as the service measured it
	query   time.Duration // the database's part, if source is fromLoad
	verdict verdict
}

// read asks for a user and judges the answer. An error is counted already.
func (c *client) read(ctx context.Context, id int64) (observation, sample, error) {
	o := observation{id: id, process: c.process}
	s := sample{process: c.process}
	o.sent = time.Now()
	header, body, err := c.do(ctx, http.MethodGet, id, nil)
	s.sent, s.http = o.sent, time.Since(o.sent)
	if err == nil {
		err = errors.Join(json.Unmarshal(body, &o.user), parseRead(header, &o, &s))
	}
	if err != nil {
		return o, s, c.failed(ctx, fmt.Errorf("GET user %d of process %s: %w", id, processName(c.process), err))
	}
	s.verdict = c.check.check(o)
	c.collect.read(s)
	return o, s, nil
}

func parseRead(h http.Header, o *observation, s *sample) error {
	var err, cacheErr, queryErr error
	var cache, query int64
	o.version, err = strconv.ParseInt(h.Get(headerVersion), 10, 64)
	cache, cacheErr = strconv.ParseInt(h.Get(headerCache), 10, 64)
	query, queryErr = strconv.ParseInt(h.Get(headerQuery), 10, 64)
	s.source, s.cache, s.query = source(h.Get(headerSource)), time.Duration(cache), time.Duration(query)
	return errors.Join(err, cacheErr, queryErr)
}

// update changes a user and tells the checker before and after. The caller
// sees to it that nobody else updates that user meanwhile.
func (c *client) update(ctx context.Context, id int64, ch change) (version int64, err error) {
	body, err := json.Marshal(ch)
	if err != nil {
		return 0, err
	}
	c.check.begin(id, ch)
	sent := time.Now()
	header, _, err := c.do(ctx, http.MethodPut, id, body)
	at := time.Now()
	if err == nil {
		version, err = strconv.ParseInt(header.Get(headerVersion), 10, 64)
	}
	if err != nil {
		return 0, c.failed(ctx, fmt.Errorf("PUT user %d to process %s: %w", id, processName(c.process), err))
	}
	c.check.acknowledge(id, c.process, version, at)
	c.collect.update(id, sent, at.Sub(sent))
	return version, nil
}

// failed counts an error, unless the demo itself was broken off.
func (c *client) failed(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		c.collect.failure(err)
	}
	return err
}

func (c *client) do(ctx context.Context, method string, id int64, body []byte) (http.Header, []byte, error) {
	url := fmt.Sprintf("%s/users/%d", c.base, id)
	return c.send(ctx, method, url, body)
}

func (c *client) send(ctx context.Context, method, url string, body []byte) (_ http.Header, _ []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, nil, fmt.Errorf("%s: %.200s", resp.Status, bytes.TrimSpace(answer))
	}
	return resp.Header, answer, nil
}

// stats asks the service for its own figures.
func (c *client) stats(ctx context.Context) (s serviceStats, err error) {
	_, body, err := c.send(ctx, http.MethodGet, c.base+"/stats", nil)
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	return s, err
}

// health asks the service whether it and its cache are well.
func (c *client) health(ctx context.Context) (bool, error) {
	var h struct{ Healthy bool }
	_, body, err := c.send(ctx, http.MethodGet, c.base+"/healthz", nil)
	if err == nil {
		err = json.Unmarshal(body, &h)
	}
	return h.Healthy, err
}
