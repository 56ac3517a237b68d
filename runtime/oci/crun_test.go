package oci

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stead-env/stead/runtime/session"
	"golang.org/x/sys/unix"
)

// Nothing that a session starts may write to crun's program by /proc/self/exe, and
// nobody else notices.
func TestShield(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	program := filepath.Join(t.TempDir(), "crun")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	err := session.OnThread(func() error {
		if err := session.PrivateMounts(); err != nil {
			return err
		}
		if told := shield(program); len(told) != 1 {
			return errors.New("it isn't shielded")
		}
		f, err := os.Open(program)
		if err != nil {
			return err
		}
		defer f.Close()
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
			t.Errorf("crun won't believe it: %v, flags %x", err, st.Flags)
		}
		if _, err := os.OpenFile(program, os.O_WRONLY, 0); !errors.Is(err, unix.EROFS) {
			t.Errorf("opened for writing: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("mine"), 0o755); err != nil {
		t.Errorf("for others: %v", err)
	}
}
