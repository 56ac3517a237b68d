// Package oci is the embedded engine: an overlay in a mount namespace of the
// session's own, and runc or crun in it. There is no daemon, nothing is mounted
// where the rest of the machine could see it, and everything in a session dies
// with the process that runs it. It needs root, or a user namespace.
package oci

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// runtimes are the OCI runtimes that are tried, in this order: crun starts in half the
// time.
var runtimes = []string{"crun", "runc"}

// Engine is the embedded engine.
type Engine struct {
	find func() (string, error)
}

var _ runtime.Engine = (*Engine)(nil)

// New returns the embedded engine over the OCI runtime of that name or path, or
// over the first that is on PATH where it is "".
func New(binary string) *Engine {
	return &Engine{find: sync.OnceValues(func() (string, error) { return findRuntime(binary) })}
}

// Name returns "embedded".
func (e *Engine) Name() string { return "embedded" }

// Check reports what is missing on this machine.
func (e *Engine) Check(ctx context.Context) error {
	if err := checkRights(); err != nil {
		return err
	}
	binary, err := e.find()
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, binary, "--version").CombinedOutput(); err != nil {
		return &runtime.Error{Op: "running " + binary + " --version", Code: runtime.CodeEngine,
			Err: fmt.Errorf("%w: %.200s", err, out)}
	}
	return session.OnThread(session.PrivateMounts)
}

func findRuntime(binary string) (string, error) {
	names := runtimes
	if binary != "" {
		names = []string{binary}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", &runtime.Error{Op: "looking for an OCI runtime", Code: runtime.CodeEngine,
		Err: fmt.Errorf("none of %v is on PATH", names), Remedy: "install runc"}
}

// Sweep clears the sessions in scratch whose process is gone.
func (e *Engine) Sweep(ctx context.Context, scratch string) error {
	elsewhere := sweepElsewhere(ctx)
	if standsOn() != machine {
		return errors.Join(elsewhere, session.Sweep(ctx, scratch, nil))
	}
	err := session.Sweep(ctx, scratch, session.RemoveCgroup)
	session.SweepCgroups()
	return errors.Join(elsewhere, err)
}
