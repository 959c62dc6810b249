package redistest

import "strings"

// configFile renders redis.conf.
func (s *Server) configFile() string {
	var b strings.Builder
	set := func(directive string, args ...string) {
		b.WriteString(directive)
		for _, arg := range args {
			b.WriteString(" " + quote(arg))
		}
		b.WriteByte('\n')
	}
	set("bind", "127.0.0.1")
	set("dir", s.dir)
	set("daemonize", "no")
	if s.cfg.tls {
		set("port", "0")
		set("tls-port", s.portText())
		set("tls-cert-file", s.cert.certFile)
		set("tls-key-file", s.cert.keyFile)
		set("tls-ca-cert-file", s.cert.certFile)
		set("tls-auth-clients", "no")
	} else {
		set("port", s.portText())
	}
	if s.cfg.socket {
		set("unixsocket", s.Socket())
	}
	if s.cfg.password != "" {
		set("requirepass", s.cfg.password)
	}
	if !s.cfg.sentinel {
		s.dataLines(set)
	}
	for _, line := range s.cfg.lines {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// dataLines are those of a server that holds data.
func (s *Server) dataLines(set func(directive string, args ...string)) {
	set("enable-debug-command", "local")
	set("save", "")
	if s.cfg.persist {
		set("appendonly", "yes")
		set("appendfsync", "always")
	}
	if s.cfg.password != "" {
		set("masterauth", s.cfg.password)
	}
	// A replica gets its data at once; the default waits 5 s for others.
	set("repl-diskless-sync-delay", "0")
}
