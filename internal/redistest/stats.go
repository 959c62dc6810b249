package redistest

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// overhead are the commands of connections and of this package itself, which
// [Server.Calls] without names leaves out.
var overhead = []string{"hello", "auth", "select", "client", "info", "config", "command", "ping"}

// CommandStats returns how often each command ran since the server started or
// [Server.ResetStats], by name in lower case ("get", "config|set"). Commands
// that a script runs count as well, beside the script.
func (s *Server) CommandStats() map[string]int64 {
	s.t.Helper()
	calls := make(map[string]int64)
	for name, value := range s.Info("commandstats") {
		name, ok := strings.CutPrefix(name, "cmdstat_")
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(value, ",")
		n, err := strconv.ParseInt(strings.TrimPrefix(first, "calls="), 10, 64)
		if err != nil {
			s.must(fmt.Errorf("INFO commandstats: %s: %w", name, err))
		}
		calls[name] = n
	}
	return calls
}

// Calls returns how often the named commands ran, together. A name also stands
// for its subcommands. Without names it counts every command but those that
// connections begin with and that this package sends.
func (s *Server) Calls(commands ...string) int64 {
	s.t.Helper()
	var sum int64
	for name, n := range s.CommandStats() {
		base, _, _ := strings.Cut(name, "|")
		if len(commands) == 0 && !slices.Contains(overhead, base) ||
			slices.Contains(commands, name) || slices.Contains(commands, base) {
			sum += n
		}
	}
	return sum
}

// ResetStats sets the counts of [Server.CommandStats] to zero.
func (s *Server) ResetStats() {
	s.t.Helper()
	s.Do("config", "resetstat")
}

// Info returns the fields of a section of INFO.
func (s *Server) Info(section string) map[string]string {
	s.t.Helper()
	text, _ := s.Do("info", section).(string)
	return infoFields(text)
}

// infoFields parses the "name:value" lines of INFO and CLUSTER INFO.
func infoFields(text string) map[string]string {
	fields := make(map[string]string)
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}
