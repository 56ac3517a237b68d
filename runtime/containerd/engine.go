// Package containerd is the engine over a containerd daemon: an env becomes an
// image and a snapshot there, a session a container, and ctr and nerdctl see both.
// It speaks to the daemon's services itself: importing the whole client would cost
// every command 1.7 ms at its start, and the services cost half of that.
package containerd

import (
	"cmp"
	"context"
	"os"

	"github.com/stead-env/stead/runtime"
)

// Options say which daemon is used, and how. What is "" is taken from the
// environment, as ctr and nerdctl take it, or by default.
type Options struct {
	Address     string // the daemon's socket; $CONTAINERD_ADDRESS
	Namespace   string // $CONTAINERD_NAMESPACE, or "stead"
	Snapshotter string // $CONTAINERD_SNAPSHOTTER, or the namespace's default, or overlayfs
}

// The defaults of Options.
const (
	defaultAddress     = "/run/containerd/containerd.sock"
	defaultNamespace   = "stead"
	defaultSnapshotter = "overlayfs"
)

// Engine is the engine over a containerd daemon.
type Engine struct {
	options Options
}

var _ runtime.Engine = (*Engine)(nil)

// New returns an engine. It connects to nothing yet.
func New(options Options) *Engine { return &Engine{options} }

// Name returns "containerd".
func (e *Engine) Name() string { return "containerd" }

// complete are the options with everything filled in but the snapshotter, which the
// daemon is asked for.
func (o Options) complete() Options {
	return Options{
		Address:     cmp.Or(o.Address, os.Getenv("CONTAINERD_ADDRESS"), defaultAddress),
		Namespace:   cmp.Or(o.Namespace, os.Getenv("CONTAINERD_NAMESPACE"), defaultNamespace),
		Snapshotter: cmp.Or(o.Snapshotter, os.Getenv("CONTAINERD_SNAPSHOTTER")),
	}
}

// Check reports why sessions can't run in the daemon.
func (e *Engine) Check(ctx context.Context) error {
	d, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	return d.check(ctx)
}

// engineError wraps what isn't a *runtime.Error yet.
func engineError(op string, err error) error {
	if e, ok := err.(*runtime.Error); ok {
		return e
	}
	return &runtime.Error{Op: op, Code: runtime.CodeEngine, Err: err}
}
