package session

import (
	"strings"

	"github.com/stead-env/stead/runtime"
)

// FailureCode is the exit code for a command that an OCI runtime did not start: whose
// fault it was stands in its message only.
func FailureCode(message string) int {
	has := func(part string) bool { return strings.Contains(message, part) }
	switch {
	case has("executable file not found"), has("no such file or directory") && has("exec"):
		return runtime.CodeNotFound
	case has("exec") && (has("permission denied") || has("exec format error")):
		return runtime.CodeNotExecutable
	}
	return runtime.CodeEngine
}
