package chroot_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime/chroot"
	"github.com/stead-env/stead/runtime/chroot/chroottest"
	"github.com/stead-env/stead/runtime/enginetest"
	"github.com/stead-env/stead/runtime/session"
)

func TestMain(m *testing.M) { enginetest.Main(m, chroot.New()) }

// confined is set in a copy of the test program that may do what a CI container may.
const confined = "STEAD_TEST_CONFINED"

// confine runs a test in a copy of this program that has the capabilities which
// container engines give, and for which mounts and namespaces are refused as their
// system call filter does. It reports whether this is that copy.
func confine(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the chroot engine needs root")
	}
	if os.Getenv(confined) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), confined+"=1")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err = session.OnThread(func() error {
		if err := chroottest.Confine(); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Fatalf("confined: %v\n%s", err, out.String())
	}
	return false
}

func TestConformance(t *testing.T) {
	if !confine(t) {
		return
	}
	if err := session.OnThread(session.PrivateMounts); err == nil {
		t.Fatal("mounts are allowed: nothing is shown")
	}
	if err := exec.Command("unshare", "--user", "true").Run(); err == nil {
		t.Fatal("user namespaces are allowed: nothing is shown")
	}
	if err := unix.Mount("none", t.TempDir(), "tmpfs", 0, ""); err == nil {
		t.Fatal("mounts are allowed: nothing is shown")
	}
	enginetest.Run(t, chroot.New(), enginetest.Options{NoNamespaces: true, NoSeccomp: true, Copies: true})
}
