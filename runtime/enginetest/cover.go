package enginetest

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/stead-env/stead/runtime"
)

// cover mounts something among what a session has of its own, and at the places that
// nobody may.
func (s *suite) cover(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, "shown\n")
	spec := s.spec()
	spec.UID, spec.GID = 0, 0
	spec.Mounts = []runtime.Mount{{Source: dir, Target: "/dev/shm/x"}, {Source: file, Target: "/dev/shm/file"}, {Source: dir, Target: "/dev/dri"},
		{Source: file, Target: "/proc/cpuinfo"}}
	if got := s.shell(t, spec, "cat /dev/shm/x/file /dev/shm/file /dev/dri/file /proc/cpuinfo"); got != "shown\nshown\nshown\nshown" {
		t.Errorf("got %q", got)
	}
	for _, target := range []string{"/proc", "/sys", "/dev", "/dev/pts/x", "/proc/sys"} {
		spec := s.spec("true")
		spec.Mounts = []runtime.Mount{{Source: dir, Target: target}}
		_, err := s.engine.Run(t.Context(), spec, runtime.Stdio{})
		if bad, ok := errors.AsType[*runtime.Error](err); !ok || bad.Op != "mounting "+dir+" at "+target {
			t.Errorf("%s: %v", target, err)
		}
	}
}
