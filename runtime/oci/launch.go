package oci

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
	"golang.org/x/sys/unix"
)

// place says where the session's container will be.
func (s *running) place(spec runtime.Spec, crun bool) runtime.Placement {
	at := runtime.Placement{Root: s.root, UserNamespace: standsOn() != machine, OneUser: standsOn() == alone}
	if !crun && !at.UserNamespace {
		at.Cgroup, s.cgroup = "/"+s.ID, true // runc insists on one
	}
	if at.OneUser && spec.UID != 0 {
		at.Become = session.Become(spec.UID, spec.GID)
	}
	return at
}

// hold makes the session's anchor, and returns the path of its PID namespace for the OCI
// runtime. All that this process writes to after its fork is copied first: it comes late.
func (s *running) hold() (path string, err error) {
	done := make(chan struct{})
	// Not from this thread: the anchor is in none of the session's mounts, which would
	// take their time to end with it. Where it is, the folder is empty.
	go func() {
		defer close(done)
		if standsOn() == alone {
			s.anchor, err = session.NewRootAnchor(s.own)
		} else {
			s.anchor, err = session.NewAnchor(s.own)
		}
	}()
	<-done
	if err != nil {
		return "", err
	}
	if standsOn() != alone {
		return s.anchor.Namespace(), nil
	}
	// The runtime will be in the anchor's user namespace, from where the anchor can't
	// be looked at.
	path = s.inside("pid-namespace")
	if err := s.kit.WriteFile("pid-namespace", nil, 0o600); err != nil {
		return "", err
	}
	if err := unix.Mount(s.anchor.Namespace(), path, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("mounting a PID namespace: %w", err)
	}
	return path, nil
}

// launch starts the OCI runtime, as root of this user namespace or of the anchor's.
// Of what is typed while it starts the session, or of a terminal that goes, it must
// not die half-way: this process has the signals, and passes them on afterwards.
func (s *running) launch(binary string, args []string, std *session.Streams, at runtime.Placement) (*os.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	env := []string{"PATH=" + os.Getenv("PATH")}
	if isCrun(binary) {
		env = append(env, shield(binary)...)
	}
	attr := &os.ProcAttr{Dir: s.own, Env: env,
		Files: []*os.File{null, null, null}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if s.socket == nil {
		attr.Files = []*os.File{std.In, std.Out, std.Err}
	}
	words := append([]string{binary}, args...)
	if standsOn() != alone {
		if os.Geteuid() != 0 { // the user's further groups may open a way to folders
			attr.Sys.Credential = &syscall.Credential{NoSetGroups: true}
		}
		return os.StartProcess(binary, words, attr)
	}
	namespaces := 0
	if len(at.Become) > 0 {
		self, err := openSelf()
		if err != nil {
			return nil, err
		}
		defer self.Close()
		attr.Files, namespaces = append(attr.Files, self), 1
	}
	return session.StartIn(s.anchor.UserNamespace(), binary, words, attr, namespaces)
}

// openSelf opens this program, for a session to start. That has none of the libraries
// which this one may have been linked with.
func openSelf() (*os.File, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	program, err := elf.NewFile(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP {
			return nil, errors.Join(f.Close(), &runtime.Error{Op: "starting a session's command as you", Code: runtime.CodeEngine,
				Err: errors.New("this stead was linked with libraries of this machine"), Remedy: "build it with CGO_ENABLED=0, as make does"})
		}
	}
	return f, nil
}
