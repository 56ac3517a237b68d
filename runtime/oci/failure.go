package oci

import (
	"bufio"
	"encoding/json"
	"errors"
	"strings"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// failure is what the runtime logged about a session that it could not start, or
// nil where it logged no error.
func (s *running) failure() error {
	f, err := s.kit.Open("log")
	if err != nil {
		return nil
	}
	defer f.Close()
	text := ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			text = entry.Msg
		}
	}
	if text == "" {
		return nil
	}
	e := &runtime.Error{Op: "starting the command", Code: session.FailureCode(text), Err: errors.New(text)}
	// The kernel lets nobody see more of /proc than before: user_namespaces(7).
	if lower := strings.ToLower(text); standsOn() != machine && strings.Contains(lower, "proc") &&
		strings.Contains(lower, "mount") && strings.Contains(lower, "operation not permitted") {
		e.Remedy = "parts of /proc are hidden here, as in containers: start the one around with " +
			"--security-opt systempaths=unconfined (Docker) or unmask=ALL (Podman), or run stead as root in it"
	}
	return e
}
