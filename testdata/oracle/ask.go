package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A room is a target's root in which questions are asked, one after the other, on a thread
// of its own: that has its own mounts, and the root as its root folder.
type room struct {
	null  *os.File
	looks map[string][]string // where programs look for modules
}

// sourceDir is where the room has the other host.
const sourceDir = "/.oracle"

// inRoom calls do in a room made of the root target, with the root source at its side. All
// of it is gone with the thread.
func inRoom(target, source string, do func(*room) error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here, and its mounts
		r := &room{looks: map[string][]string{}}
		err := r.enter(target, source)
		if err == nil {
			err = do(r)
		}
		done <- err
	}()
	return <-done
}

func (r *room) enter(target, source string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	r.null = null
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	const scratch = "/mnt"
	if err := unix.Mount("tmpfs", scratch, "tmpfs", 0, "size=1g"); err != nil {
		return fmt.Errorf("mounting a scratch folder: %w", err)
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(scratch, dir), 0o755); err != nil {
			return err
		}
	}
	root := scratch + "/root"
	options := "lowerdir=" + target + ",upperdir=" + scratch + "/upper,workdir=" + scratch + "/work"
	// No set-id: a privileged start is traced by no loader.
	if err := unix.Mount("overlay", root, "overlay", unix.MS_NOSUID, options); err != nil {
		return fmt.Errorf("mounting %s: %w", target, err)
	}
	return r.furnish(root, source)
}

func (r *room) furnish(root, source string) error {
	for _, m := range []struct{ from, at string }{{source, sourceDir}, {"/proc", "/proc"}, {"/dev", "/dev"}} {
		if err := os.MkdirAll(root+m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.from, root+m.at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.from, err)
		}
	}
	if err := unix.Mount("", root+sourceDir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", source, err)
	}
	if err := unix.Chroot(root); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// errNoPlace says that a file can't lie at its path on the target.
var errNoPlace = errors.New("there is no place for it")

// place lays a file of the source at its own path on the target, over what is there, and
// gives the way back.
func (r *room) place(path string) (back func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPlace, err)
	}
	st, err := os.Lstat(path)
	var undo []func() error
	switch {
	case err == nil && st.Mode()&os.ModeSymlink != 0:
		aside := path + ".aside"
		if err := os.Rename(path, aside); err != nil {
			return nil, err
		}
		undo = append(undo, func() error { return os.Rename(aside, path) })
		fallthrough
	case errors.Is(err, os.ErrNotExist):
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			return nil, err
		}
		undo = append(undo, func() error { return os.Remove(path) })
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errNoPlace
	}
	if err := unix.Mount(sourceDir+path, path, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("mounting %s: %w", path, err)
	}
	undo = append(undo, func() error { return unix.Unmount(path, unix.MNT_DETACH) })
	return func() (err error) {
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
		return err
	}, nil
}

// loaders are the dynamic loaders that this is asked of, by machine.
var loaders = map[elf.Machine]string{elf.EM_X86_64: "/lib64/ld-linux-x86-64.so.2", elf.EM_386: "/lib/ld-linux.so.2"}

// ask puts the question of a subject to the target, with the file in its place.
func (r *room) ask(ctx context.Context, s subject) (a answer, err error) {
	a.Path = s.Path
	back, err := r.place(s.Path)
	if errors.Is(err, errNoPlace) {
		a.Way = noPlace
		return a, nil
	}
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, back()) }()
	err = r.question(ctx, &a, s)
	return a, err
}

// question asks of a file that lies in its place.
func (r *room) question(ctx context.Context, a *answer, s subject) (err error) {
	switch s.Kind {
	case program:
		a.Way = started
		if a.Exec, err = r.exec(s.Path); err == nil && a.Exec == "" {
			err = r.trace(ctx, a, nil, s.Path)
		}
	case static:
		a.Way = started
		a.Exec, err = r.exec(s.Path)
	case script:
		a.Way = started
		err = r.script(ctx, a, s)
	case library:
		err = r.library(ctx, a, s)
	}
	return err
}

// library asks for a library as who loads it does: a module in its program, others alone.
func (r *room) library(ctx context.Context, a *answer, s subject) (err error) {
	if a.Overlooked, err = r.overlooks(ctx, s); err != nil {
		return err
	}
	if host, now := loadedBy(s); host != "" {
		a.Way, a.Into, a.Now = preloaded, host, now
		env := []string{"LD_PRELOAD=" + s.Path}
		if strings.HasSuffix(host, ".so") {
			return r.trace(ctx, a, env, loaders[s.Machine], host)
		}
		return r.trace(ctx, a, env, host)
	}
	a.Way = loaded
	ld := loaders[s.Machine]
	if _, err := os.Stat(ld); err != nil {
		a.Exec = syscall.ENOENT.Error()
		return nil
	}
	return r.trace(ctx, a, nil, ld, s.Path) // --list would bind nothing
}

// exec asks the kernel whether it takes a file. It is stopped before its first instruction.
func (r *room) exec(path string, args ...string) (refused string, err error) {
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r.null, r.null, r.null
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	err = cmd.Start()
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error(), nil
	case err != nil:
		return "", err
	}
	if err := cmd.Process.Kill(); err != nil {
		return "", err
	}
	_ = cmd.Wait() // it was killed
	return "", nil
}

// script asks the kernel for a script, and then for what starts it: its interpreter, or
// the program that env finds.
func (r *room) script(ctx context.Context, a *answer, s subject) (err error) {
	if a.Exec, err = r.exec(s.Path); a.Exec != "" || err != nil {
		return err
	}
	words := strings.Fields(s.Interp)
	program := words[0]
	if filepath.Base(program) == "env" {
		if program = wanted(words[1:]); program == "" {
			a.Exec = syscall.ENOENT.Error()
			return nil
		}
		if a.Exec, err = r.exec(program); a.Exec != "" || err != nil {
			return err
		}
	}
	f, err := elf.Open(program)
	if err != nil {
		return nil // another script
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return r.trace(ctx, a, nil, program)
		}
	}
	return nil
}

// wanted is the program that env finds for its arguments, "" for none.
func wanted(args []string) string {
	for _, word := range args {
		if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
			continue
		}
		for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
			if _, err := os.Stat(filepath.Join(dir, word)); err == nil {
				return filepath.Join(dir, word)
			}
		}
		break
	}
	return ""
}

// trace has the loader of a program tell what a start would load and lack, without and
// with LD_BIND_NOW.
func (r *room) trace(ctx context.Context, a *answer, env []string, path string, args ...string) error {
	env = append(env, "LD_TRACE_LOADED_OBJECTS=1", "LD_WARN=1", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin")
	load, err := r.complaints(ctx, env, path, args)
	if err != nil {
		return err
	}
	call, err := r.complaints(ctx, append(env, "LD_BIND_NOW=1"), path, args)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, c := range load {
		seen[c] = true
	}
	a.Load = load
	for _, c := range call {
		if !seen[c] {
			a.Call = append(a.Call, c)
		}
	}
	return nil
}

func (r *room) complaints(ctx context.Context, env []string, path string, args []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, r.null, &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("asking for %s: %w", path, ctx.Err())
	}
	list := told(&out)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && len(list) == 0:
		return []string{exit.Error()}, nil // a loader that fell over
	case err != nil && exit == nil:
		return nil, err
	}
	return list, nil
}

// told are a loader's complaints, each once: the lines that say where a library was found
// are none.
func told(out *bytes.Buffer) (list []string) {
	seen := map[string]bool{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		found := strings.HasSuffix(line, ")") && strings.Contains(line, " (0x")
		if line == "" || found || line == "statically linked" || seen[line] {
			continue
		}
		seen[line] = true
		list = append(list, line)
	}
	return list
}
