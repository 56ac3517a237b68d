package envs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestReleaseThatIsAPipe(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "etc/os-release"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text, _ := readRelease(dir, "etc/os-release"); text != "" {
		t.Errorf("got %q", text)
	}
}
