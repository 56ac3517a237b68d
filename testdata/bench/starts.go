package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// The ways of starting a container that are measured, all with this machine's network:
// one program from start to end, and a shell until it shows its prompt.
const (
	steadTrue    = "stead run -- true"
	mappedTrue   = "stead run -- true, as a user with subordinate ids"
	aloneTrue    = "stead run -- true, as a user without"
	runcTrue     = "runc run, true, the same bundle"
	runcSpec     = "runc run, true, the same root, no seccomp filter (runc spec)"
	nspawnTrue   = "systemd-nspawn, true, changes thrown away"
	nspawnStill  = "systemd-nspawn, true, read-only"
	podmanTrue   = "podman run, true"
	steadPrompt  = "stead enter, to the prompt"
	runcPrompt   = "runc run, to the prompt, the same bundle"
	nspawnPrompt = "systemd-nspawn, to the prompt, changes thrown away"
	podmanPrompt = "podman run, to the prompt"
)

// The bundles for bare runc: as stead has them, and as `runc spec` has it.
const (
	bundleDir = "bundle"
	shellDir  = "bundle-shell"
	plainDir  = "bundle-plain"
)

// starts measures the ways of starting, in turns; what the machine lacks is left out.
func (b *bench) starts(ctx context.Context, times int) error {
	if times == 0 {
		return nil
	}
	if err := b.bundles(ctx); err != nil {
		return err
	}
	mapped, err := b.newUser(ctx, true)
	if err != nil {
		return err
	}
	alone, err := b.newUser(ctx, false)
	if err != nil {
		return err
	}
	var works []step
	for _, s := range append(b.startSteps(), b.userStep(mappedTrue, mapped), b.userStep(aloneTrue, alone)) {
		if err := errors.Join(s.do(ctx), after(ctx, s)); err != nil { // and warm
			fmt.Fprintf(os.Stderr, "left out: %s: %v\n", s.name, err)
			continue
		}
		works = append(works, s)
	}
	for range times {
		for _, s := range works {
			if err := b.measure(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func after(ctx context.Context, s step) error {
	if s.after == nil {
		return nil
	}
	return s.after(ctx)
}

func (b *bench) startSteps() []step {
	id := fmt.Sprintf("bench-%d", os.Getpid())
	nspawn := []string{"systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--machine=" + id, "-D", b.root}
	// Limits of open files and processes as they are: to raise them takes a right that
	// not every container around this one has.
	podman := []string{"podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "run", "--rm", "--network=host",
		"--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"}
	program := func(name, dir string, words ...string) step {
		return step{name: name, do: func(ctx context.Context) error { return b.command(ctx, dir, words[0], words[1:]...) }}
	}
	project := b.path("project")
	return []step{
		program(steadTrue, project, b.stead, "run", "server", "--", "true"),
		program(runcTrue, b.path(bundleDir), "runc", "run", id),
		program(runcSpec, b.path(plainDir), "runc", "run", id),
		program(nspawnTrue, b.dir, append(slices.Clone(nspawn), "--volatile=overlay", "/bin/true")...),
		program(nspawnStill, b.dir, append(slices.Clone(nspawn), "--read-only", "/bin/true")...),
		program(podmanTrue, b.dir, append(slices.Clone(podman), "--rootfs", b.root+":O", "/bin/true")...),
		b.prompt(steadPrompt, project, b.stead, "enter", "server"),
		b.prompt(runcPrompt, b.path(shellDir), "runc", "run", id),
		b.prompt(nspawnPrompt, b.dir, append(slices.Clone(nspawn), "--volatile=overlay", "/bin/bash")...),
		b.prompt(podmanPrompt, b.dir, append(slices.Clone(podman), "-it", "--rootfs", b.root+":O", "/bin/bash")...),
	}
}

func (b *bench) userStep(name string, u *somebody) step {
	return step{name: name, do: func(ctx context.Context) error { return b.as(ctx, u, "run", "server", "--", "true") }}
}

// prompt measures until a shell asks for a command; ending it isn't measured.
func (b *bench) prompt(name, dir string, words ...string) step {
	var cmd *exec.Cmd
	var terminal *os.File
	return step{name: name, do: func(ctx context.Context) (err error) {
		cmd = exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "STEAD_FLEET="+b.fleet, "STEAD_STORE="+b.store, "TERM=dumb")
		if terminal, err = pty.Start(cmd); err != nil {
			return err
		}
		guard := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() }) //nolint:errcheck // or it has ended
		defer guard.Stop()
		var seen []byte
		buf := make([]byte, 4096)
		for !bytes.Contains(seen, []byte("# ")) {
			n, err := terminal.Read(buf)
			if seen = append(seen, buf[:n]...); err != nil {
				return fmt.Errorf("waiting for a prompt: %w; the terminal shows %q", err, seen)
			}
		}
		return nil
	}, after: func(context.Context) error {
		defer terminal.Close()
		if _, err := terminal.WriteString("exit\n"); err != nil {
			return err
		}
		go func() { // what it says until it ends
			for buf := make([]byte, 4096); ; {
				if _, err := terminal.Read(buf); err != nil {
					return
				}
			}
		}()
		return cmd.Wait()
	}}
}

func (b *bench) startRatios() {
	b.ratio(steadTrue, runcTrue, "at most", 1.3)
	b.ratio(mappedTrue, runcTrue, "at most", 2)
	b.ratio(aloneTrue, runcTrue, "at most", 2)
	b.ratio(nspawnTrue, steadTrue, "at least", 2)
	b.ratio(nspawnStill, steadTrue, "", 0)
	b.ratio(podmanTrue, steadTrue, "at least", 3)
	b.ratio(steadTrue, runcSpec, "", 0)
	b.ratio(steadPrompt, runcPrompt, "at most", 1.3)
	b.ratio(nspawnPrompt, steadPrompt, "at least", 2)
	b.ratio(podmanPrompt, steadPrompt, "at least", 3)
}

// bundles writes bundles for bare runc on the same root: stead's own, read off a
// running session of runc's, and the one that `runc spec` writes.
func (b *bench) bundles(ctx context.Context) error {
	for _, dir := range []string{bundleDir, plainDir, shellDir} {
		if err := os.Mkdir(b.path(dir), 0o700); err != nil {
			return err
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	alone := b.path("runc-alone") // crun would be taken before it, and needs less
	if err := errors.Join(os.Mkdir(alone, 0o700), os.Symlink(runc, filepath.Join(alone, "runc"))); err != nil {
		return err
	}
	sleep := exec.CommandContext(ctx, b.stead, "run", "server", "--", "sleep", "60")
	sleep.Dir = b.path("project")
	sleep.Env = append(os.Environ(), "STEAD_FLEET="+b.fleet, "STEAD_STORE="+b.store, "PATH="+alone)
	if err := sleep.Start(); err != nil {
		return err
	}
	// The session's own folder is in its mount namespace alone; stead holds it open.
	config, err := awaitFile(ctx, fmt.Sprintf("/proc/%d/fd/*/config.json", sleep.Process.Pid))
	err = errors.Join(err, sleep.Process.Signal(syscall.SIGTERM))
	sleep.Wait() //nolint:errcheck // it was told to end
	if err != nil {
		return err
	}
	if err := errors.Join(b.writeBundle(bundleDir, config, "true"), b.writeBundle(shellDir, config, "/bin/bash")); err != nil {
		return err
	}
	if err := b.command(ctx, b.path(plainDir), "runc", "spec"); err != nil {
		return err
	}
	if config, err = os.ReadFile(filepath.Join(b.path(plainDir), "config.json")); err != nil {
		return err
	}
	return b.writeBundle(plainDir, config, "true")
}

// awaitFile reads the file that a pattern matches once it is there and complete.
func awaitFile(ctx context.Context, pattern string) ([]byte, error) {
	for range 200 {
		if names, _ := filepath.Glob(pattern); len(names) == 1 {
			if content, err := os.ReadFile(names[0]); err == nil && json.Valid(content) {
				return content, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("%s: no session came", pattern)
}

// writeBundle makes a session's specification one that stands alone: runc makes its
// process namespace, and nothing of the session is mounted.
func (b *bench) writeBundle(dir string, config []byte, command string) error {
	var spec map[string]any
	if err := json.Unmarshal(config, &spec); err != nil {
		return err
	}
	process, linux := spec["process"].(map[string]any), spec["linux"].(map[string]any)
	process["terminal"], process["args"], process["cwd"] = dir == shellDir, []string{command}, "/"
	spec["root"] = map[string]any{"path": b.root, "readonly": true}
	delete(linux, "cgroupsPath")
	spec["mounts"] = slices.DeleteFunc(spec["mounts"].([]any), func(m any) bool { return m.(map[string]any)["type"] == "bind" })
	for _, n := range linux["namespaces"].([]any) {
		delete(n.(map[string]any), "path")
	}
	content, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.path(dir), "config.json"), content, 0o600)
}
