package enginetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// privilegeProgram tells its effective user and capabilities.
const privilegeProgram = `#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <linux/capability.h>

int main(void) {
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	memset(data, 0, sizeof data);
	if (syscall(SYS_capget, &header, data) != 0)
		return 1;
	printf("%d %x\n", (int)geteuid(), data[0].effective);
	return 0;
}
`

// fileCapability is the attribute that gives a program CAP_CHOWN:
// struct vfs_cap_data, version 2, effective.
const fileCapability = "\x01\x00\x00\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// privileges starts a program that is setuid root's, and one with a capability. Where
// nobody but the user owns files neither can be on a disk.
func (s *suite) privileges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layer")
	must(t, os.MkdirAll(filepath.Join(dir, "opt"), 0o755))
	plain := filepath.Join(dir, "opt/plain")
	cmd := exec.Command("gcc", "-static", "-O1", "-x", "c", "-o", plain, "-")
	cmd.Stdin = strings.NewReader(privilegeProgram)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, out)
	}
	for _, name := range []string{"setuid", "capable"} {
		copyFile(t, plain, filepath.Join(dir, "opt", name))
	}
	want := "own 0\nroot some\nown 1"
	if s.options.OneUser {
		want = "own 0\nown 0\nown 0"
	} else {
		must(t, os.Chown(filepath.Join(dir, "opt/setuid"), 0, 0))
		must(t, os.Chown(filepath.Join(dir, "opt/capable"), 0, 0))
		must(t, unix.Setxattr(filepath.Join(dir, "opt/capable"), "security.capability", []byte(fileCapability), 0))
	}
	must(t, os.Chmod(filepath.Join(dir, "opt/setuid"), os.ModeSetuid|0o755))
	spec := s.spec()
	spec.Lower = []string{dir}
	if spec.UID, spec.GID = uint32(os.Getuid()), uint32(os.Getgid()); spec.UID == 0 {
		spec.UID, spec.GID = 1234, 2345
	}
	out := s.shell(t, spec, `/opt/plain; /opt/setuid; /opt/capable`)
	var told []string
	for line := range strings.Lines(out) {
		id, capabilities, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id == "0" && capabilities != "0" {
			id, capabilities = "root", "some" // as many as the engine leaves to root
		} else if id == strconv.Itoa(int(spec.UID)) {
			id = "own"
		}
		told = append(told, id+" "+capabilities)
	}
	got := strings.Join(told, "\n")
	if got != want {
		t.Errorf("programs with privileges told:\n%s\nwant\n%s", got, want)
	}
}
