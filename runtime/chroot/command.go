package chroot

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// allowed are the capabilities that container engines give to root, without those
// that lead out of a chroot: to change the root once more, and to make this
// machine's devices.
var allowed = []uint{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID,
	unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_AUDIT_WRITE,
	unix.CAP_SETFCAP,
}

// newCommand prepares all that the forked process needs.
func newCommand(spec runtime.Spec, root string, std *session.Streams) (*command, error) {
	c := &command{in: std.In.Fd(), out: std.Out.Fd(), err: std.Err.Fd(), terminal: spec.Terminal,
		umask: uintptr(spec.Umask & 0o777), uid: uintptr(spec.UID), gid: uintptr(spec.GID), groups: spec.Groups}
	var err error
	if err = unix.Getrlimit(unix.RLIMIT_NOFILE, &c.nofile); err != nil {
		return nil, fmt.Errorf("reading the limit of open files: %w", err)
	}
	soft := spec.NoFile
	if soft == 0 {
		soft = 1024
	}
	c.nofile.Cur = min(soft, c.nofile.Max)
	if err := c.bound(spec.UID); err != nil {
		return nil, err
	}
	texts := []struct {
		to   *[]*byte
		from []string
	}{{&c.argv, spec.Command}, {&c.envv, spec.Env}, {&c.candidates, candidates(spec)}}
	for _, t := range texts {
		for _, s := range t.from {
			p, err := unix.BytePtrFromString(s)
			if err != nil {
				return nil, fmt.Errorf("%q has a byte 0", s)
			}
			*t.to = append(*t.to, p)
		}
	}
	c.argv, c.envv = append(c.argv, nil), append(c.envv, nil)
	if c.root, err = unix.BytePtrFromString(root); err != nil {
		return nil, err
	}
	c.dir, err = unix.BytePtrFromString(path.Join("/", spec.Dir))
	return c, err
}

// bound finds the capabilities that leave the bounding set, and those that the
// session's user has from the start.
func (c *command) bound(uid uint32) error {
	keep := uint64(0)
	for _, bit := range allowed {
		keep |= 1 << bit
	}
	for bit := uint(0); bit < 64; bit++ {
		on, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(bit), 0, 0, 0)
		if err != nil {
			break // the last one that this kernel knows was before
		}
		if on == 1 && keep&(1<<bit) == 0 {
			c.drop |= 1 << bit
		}
	}
	c.capHeader.Version = unix.LINUX_CAPABILITY_VERSION_3
	if uid != 0 {
		return nil
	}
	now, err := capabilities()
	for i := range now {
		c.capData[i].Permitted = now[i].Permitted & uint32(keep>>(32*i))
		c.capData[i].Effective = c.capData[i].Permitted
	}
	return err
}

// candidates are the files that execvp(3) would try.
func candidates(spec runtime.Spec) []string {
	name := spec.Command[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var list []string
	for dir := range strings.SplitSeq(runtime.SearchPath(spec.Env), ":") {
		list = append(list, filepath.Join("/", spec.Dir, dir, name))
		if path.IsAbs(dir) {
			list[len(list)-1] = dir + "/" + name
		}
	}
	return list
}
