package rootlesstest

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/runtime/session"
)

// A test that was killed leaves its user, and the next one that makes one clears it:
// not those of living tests.
func TestClearUsers(t *testing.T) {
	if os.Getenv("LEAVE_USER") != "" {
		u := NewUser(t, false)
		if err := u.Command(t, "sleep", "600").Start(); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(u.Name + "\n")
		time.Sleep(10 * time.Minute)
	}
	living := NewUser(t, false)
	cmd := exec.Command(os.Args[0], "-test.run=^TestClearUsers$")
	cmd.Env = append(os.Environ(), "LEAVE_USER=1")
	out, err := cmd.StdoutPipe()
	must(t, errors.Join(err, cmd.Start()))
	line := make([]byte, 64)
	n, err := out.Read(line)
	name := strings.TrimSpace(string(line[:n]))
	left, lerr := user.Lookup(name)
	cmd.Process.Kill()
	cmd.Wait()
	must(t, errors.Join(err, lerr))
	NewUser(t, false)
	if _, err := user.Lookup(name); err == nil {
		t.Errorf("%s is still there", name)
	}
	if _, err := os.Lstat(left.HomeDir); err == nil {
		t.Errorf("%s is still there", left.HomeDir)
	}
	if _, err := os.Lstat(left.HomeDir + ".lock"); err == nil {
		t.Errorf("the lock of %s is still there", left.HomeDir)
	}
	if _, err := user.Lookup(living.Name); err != nil {
		t.Errorf("the user of a living test is gone: %v", err)
	}
	if lock, err := session.TakeLock(living.Home + ".lock"); err == nil {
		lock.Close()
		t.Error("a living test holds no lock")
	}
}
