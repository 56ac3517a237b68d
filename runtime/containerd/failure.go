package containerd

import (
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"

	"github.com/stead-env/stead/runtime"
)

// notStarted is the error for a task that the daemon's runtime did not start: whose
// fault it was stands in its text only.
func notStarted(err error) error {
	err = native(err)
	text := err.Error()
	code, remedy := runtime.CodeEngine, ""
	switch {
	case strings.Contains(text, `exec: "runc"`), strings.Contains(text, `exec: "containerd-shim`):
		remedy = "install runc and containerd's shim where the daemon finds them"
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory") &&
		strings.Contains(text, "exec"):
		code = runtime.CodeNotFound
	case strings.Contains(text, "exec") && (strings.Contains(text, "permission denied") ||
		strings.Contains(text, "exec format error")):
		code = runtime.CodeNotExecutable
	}
	return &runtime.Error{Op: "starting the command", Code: code, Err: err, Remedy: remedy}
}

// native is the error that an answer of the daemon stands for.
func native(err error) error {
	if _, ok := status.FromError(err); ok {
		return errgrpc.ToNative(err)
	}
	return err
}

func notFound(err error) bool { return errdefs.IsNotFound(native(err)) }
