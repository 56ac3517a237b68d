package containerd

import (
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// notStarted is the error for a task that the daemon's runtime did not start.
func notStarted(err error) error {
	err = native(err)
	text, remedy := err.Error(), ""
	code := session.FailureCode(text)
	if strings.Contains(text, `exec: "runc"`) || strings.Contains(text, `exec: "containerd-shim`) {
		code, remedy = runtime.CodeEngine, "install runc and containerd's shim where the daemon finds them"
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
