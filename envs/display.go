package envs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stead-env/stead/runtime"
)

// agent gives the session the developer's ssh agent, where they want that: whatever
// runs in it can then log in as them.
func (s *sessionPlan) agent() error {
	sock := os.Getenv("SSH_AUTH_SOCK")
	if !s.SSHAgent || s.Network != runtime.NetworkHost || !isSocket(sock) {
		return nil
	}
	at := sessionDir + "/ssh-agent"
	s.show(sock, at, true)
	s.vars["SSH_AUTH_SOCK"] = at
	return nil
}

func isSocket(name string) bool {
	info, err := os.Stat(name)
	return err == nil && filepath.IsAbs(name) && info.Mode()&fs.ModeSocket != 0
}

// DisplayError says why a session can show nothing.
type DisplayError struct{ Reason string }

func (e *DisplayError) Error() string { return "showing a display: " + e.Reason }

// Hint says how to go on.
func (e *DisplayError) Hint() string {
	return "start stead in a graphical session, or through ssh -X, or leave --display out"
}

// display gives the session the developer's X11 and Wayland displays.
func (s *sessionPlan) display() error {
	if !isSet(s.Display) {
		return nil
	}
	wayland, err := s.wayland()
	if err != nil {
		return err
	}
	name := os.Getenv("DISPLAY")
	if name == "" && wayland {
		return nil
	}
	if name == "" {
		return &DisplayError{"neither DISPLAY nor WAYLAND_DISPLAY names one"}
	}
	if err := s.x11(name); err != nil && !wayland {
		return err
	}
	return nil
}

// x11Sockets is where X servers listen for this machine's programs. They also do
// under an abstract name, which a session without this machine's network can't see.
const x11Sockets = "/tmp/.X11-unix"

// x11 shows an X server's socket and a copy of the user's cookie for it.
func (s *sessionPlan) x11(name string) error {
	host, number, err := parseDisplay(name)
	if err != nil {
		return &DisplayError{err.Error()}
	}
	switch sock := x11Sockets + "/X" + strconv.Itoa(number); {
	case host == "" && !isSocket(sock):
		return &DisplayError{fmt.Sprintf("DISPLAY is %q, and no X server listens on %s", name, sock)}
	case host == "":
		s.show(sock, sock, true)
	case s.Network != runtime.NetworkHost:
		return &DisplayError{fmt.Sprintf("DISPLAY is %q, which the session can't reach without the network", name)}
	}
	s.vars["DISPLAY"] = name
	// The X server and the session don't share memory: they have an IPC namespace each.
	// Qt finds out by dying.
	s.vars["QT_X11_NO_MITSHM"] = "1"
	file := os.Getenv("XAUTHORITY")
	if file == "" {
		home, err := homeDir()
		if err != nil {
			return err
		}
		file = filepath.Join(home, ".Xauthority")
	}
	data, err := readBounded(file, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the server lets the user in without
	}
	if err != nil {
		return err
	}
	cookies, err := xauthFor(data, strconv.Itoa(number))
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	s.vars["XAUTHORITY"] = s.file("Xauthority", string(cookies))
	return nil
}

// parseDisplay reads [HOST]:NUMBER[.SCREEN]. This machine's own server has no host,
// or "unix".
func parseDisplay(name string) (host string, number int, err error) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 {
		return "", 0, fmt.Errorf("DISPLAY is %q, which isn't [HOST]:NUMBER", name)
	}
	digits, _, _ := strings.Cut(name[i+1:], ".")
	number, err = strconv.Atoi(digits)
	if err != nil || number < 0 {
		return "", 0, fmt.Errorf("DISPLAY is %q, which isn't [HOST]:NUMBER", name)
	}
	if host = name[:i]; host == "unix" {
		host = ""
	}
	return host, number, nil
}

// wayland shows a compositor's socket in a runtime folder of the session's own, and
// reports whether there is one.
func (s *sessionPlan) wayland() (bool, error) {
	sock := os.Getenv("WAYLAND_DISPLAY")
	if sock == "" {
		return false, nil
	}
	if !filepath.IsAbs(sock) {
		sock = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), sock)
	}
	if !isSocket(sock) {
		if os.Getenv("DISPLAY") != "" {
			return false, nil
		}
		return false, &DisplayError{fmt.Sprintf("WAYLAND_DISPLAY is %q, and nothing listens on %s", os.Getenv("WAYLAND_DISPLAY"), sock)}
	}
	dir, err := s.store.WorkDir("runtime") // 0700, as programs want it
	if err != nil {
		return false, fmt.Errorf("making a runtime folder: %w", err)
	}
	if err := os.Chown(dir, int(s.spec.UID), int(s.spec.GID)); err != nil && !isSet(s.Root) {
		return false, fmt.Errorf("making a runtime folder: %w", err)
	}
	inside := "/run/user/" + strconv.FormatUint(uint64(s.spec.UID), 10)
	s.show(dir, inside, false)
	s.show(sock, inside+"/"+filepath.Base(sock), true)
	s.vars["XDG_RUNTIME_DIR"] = inside
	s.vars["WAYLAND_DISPLAY"] = filepath.Base(sock)
	return true, nil
}
