package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// Tries are what only a process that may mount can find out: this one, or one in an
// ordinary user's namespace. They leave nothing.
type Tries struct {
	Mounts  Check  `json:"mounts"`
	Overlay Check  `json:"overlay"`
	Upper   Check  `json:"upper"`
	Session Check  `json:"session"`
	Alone   string `json:"alone"` // why there are no other ids; "" where there are
}

func tries() Tries {
	return Tries{
		Mounts:  Check{Name: "mounts", For: "A session has mounts of its own, in a namespace that nobody else sees."},
		Overlay: Check{Name: "overlay", For: "A session writes to a layer above its env, which stays as it is."},
		Upper:   Check{Name: "overlay on the store", For: "What sessions change is kept on disk, not in memory."},
		Session: Check{Name: "session", For: "A command is started as stead run would."},
	}
}

// NotTried is the answer where the process that should try failed.
func NotTried(err error) Tries {
	t := tries()
	for _, c := range []*Check{&t.Mounts, &t.Overlay, &t.Upper, &t.Session} {
		*c = c.or(err, "", Missing)
	}
	return t
}

// Try makes a mount namespace, overlays in it, and a session of engine, on the file
// system that store is on.
func Try(ctx context.Context, engine runtime.Engine, store string) Tries {
	t := tries()
	t.Mounts = t.Mounts.or(session.OnThread(session.PrivateMounts), "one was made", Missing)
	t.Overlay = t.Overlay.or(session.OnThread(func() error { return overlay("") }), "one was mounted", Missing)
	dir, clean, err := scratch(store)
	if err != nil {
		t.Upper = t.Upper.with(Warning, "not tried: %v", err)
	} else {
		defer clean()
		t.Upper.Remedy = "move the store to a local disk with STEAD_STORE=FOLDER; until then sessions keep changes in memory"
		t.Upper = t.Upper.or(session.OnThread(func() error { return overlay(dir) }), "one was mounted", Warning)
	}
	t.Session = trySession(ctx, t.Session, engine, dir)
	return t
}

// scratch makes a folder where the store is, or where it would be.
func scratch(store string) (dir string, clean func(), err error) {
	for there := store; ; there = filepath.Dir(there) {
		dir, err = os.MkdirTemp(there, "stead-doctor-")
		if err == nil {
			return dir, func() { os.RemoveAll(dir) }, nil
		}
		if !errors.Is(err, os.ErrNotExist) || there == filepath.Dir(there) {
			return "", nil, err
		}
	}
}

// overlay mounts one in a namespace of the calling thread's own, with its upper
// folder in dir, or in memory.
func overlay(dir string) error {
	if err := session.PrivateMounts(); err != nil {
		return err
	}
	if dir == "" {
		dir = os.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"); err != nil {
			return fmt.Errorf("mounting a tmpfs: %w", err)
		}
	}
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if uids, err := os.ReadFile("/proc/self/uid_map"); err == nil && !initial(string(uids)) {
		options += ",userxattr"
	}
	if err := unix.Mount("overlay", filepath.Join(dir, "merged"), "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting an overlay: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "merged", "file"), nil, 0o600)
}

// initial reports whether a table of ids is that of the first user namespace.
func initial(table string) bool {
	var inside, outside, count uint64
	n, err := fmt.Sscan(table, &inside, &outside, &count)
	return n == 3 && err == nil && inside == 0 && outside == 0 && count == 1<<32-1
}

// trySession runs true(1) of this machine, in a root of its own that shows /usr.
func trySession(ctx context.Context, c Check, engine runtime.Engine, dir string) Check {
	if err := engine.Check(ctx); err != nil {
		return c.or(err, "", Missing)
	}
	root := filepath.Join(dir, "root")
	if target, err := os.Readlink("/bin"); dir == "" || err != nil || target != "usr/bin" {
		return c.with(OK, "not tried: /bin is no link to usr/bin here")
	}
	err := os.Mkdir(root, 0o755)
	for _, name := range []string{"bin", "lib", "lib64", "lib32"} {
		err = errors.Join(err, os.Symlink("usr/"+name, filepath.Join(root, name)))
	}
	if err != nil {
		return c.or(err, "", Missing)
	}
	start := time.Now()
	res, err := engine.Run(ctx, runtime.Spec{Name: "doctor", Root: root, Scratch: dir, Command: []string{"/bin/true"}, Umask: 0o022,
		Hostname: "doctor", UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Env: []string{"PATH=/bin"},
		Mounts: []runtime.Mount{{Source: "/usr", Target: "/usr", ReadOnly: true}}}, runtime.Stdio{})
	if err == nil && res.ExitCode != 0 {
		err = fmt.Errorf("true ended with exit code %d", res.ExitCode)
	}
	return c.or(err, fmt.Sprintf("one ran in %d ms", time.Since(start).Milliseconds()), Missing)
}
