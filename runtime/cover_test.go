package runtime

import (
	"strings"
	"testing"
)

// What engines have in a session themselves is refused before any of them starts.
func TestCoverable(t *testing.T) {
	root, source := t.TempDir(), t.TempDir()
	for target, fine := range map[string]bool{
		"/": false, "/..": false, "/proc": false, "/proc/": false, "/proc/x": false, "/proc/sys": false, "/proc/sys/kernel/osrelease": false,
		"/proc/cpuinfo": true, "/process": true, "/sys": false, "/sys/nosuch": false, "/sys/firmware": false, "/sys/fs": true, "/dev": false,
		"/dev/null": false, "/dev/pts": false, "/dev/pts/0": false, "/dev/mqueue/x": false, "/dev/fd/x": false, "/x/../dev/tty": false,
		"/dev/shm": true, "/dev/shm/x": true, "/dev/dri": true, "/dev/nullify": true, "/devices": true, "/srv": true,
	} {
		_, _, err := MountPoints(Spec{Mounts: []Mount{{Source: source, Target: target}}}, root)
		bad, _ := err.(*Error)
		if fine && err != nil || !fine && (bad == nil || bad.Code != CodeEngine || bad.Remedy == "" || !strings.Contains(err.Error(), "can't be covered")) {
			t.Errorf("%s: %v", target, err)
		}
	}
}
