package chroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// devices are what every session has in /dev, as container engines give it.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// makeDevices makes /dev, and the folders that other engines mount on. ok is false
// where this machine allows no device: then /dev/null is an ordinary file.
func makeDevices(root string) (ok bool, err error) {
	for _, name := range own {
		if err := freshDir(filepath.Join(root, name), 0o755); err != nil {
			return false, err
		}
	}
	dev := filepath.Join(root, "dev")
	if err := freshDir(filepath.Join(dev, "shm"), 0o1777); err != nil {
		return false, err
	}
	if err := freshDir(filepath.Join(dev, "pts"), 0o755); err != nil {
		return false, err
	}
	for _, d := range devices {
		if err := device(filepath.Join(dev, d.name), d.major, d.minor); err != nil {
			if d.name != "null" {
				return false, err
			}
			return false, ordinaryNull(filepath.Join(dev, "null"))
		}
	}
	return true, nil
}

// device makes a character device that everybody may use, and tries it: a file
// system can refuse to open what it let be made.
func device(name string, major, minor uint32) error {
	if err := unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor))); err != nil {
		return fmt.Errorf("making %s: %w", name, err)
	}
	if err := unix.Chmod(name, 0o666); err != nil {
		return err
	}
	if major != 1 {
		return nil // there may be no terminal
	}
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return errors.Join(fmt.Errorf("opening %s: %w", name, err), os.Remove(name))
	}
	return unix.Close(fd)
}

// addDevices makes this machine's devices that the session asks for, at their own
// paths in its /dev.
func (s *running) addDevices(list []string) {
	for _, name := range list {
		var st unix.Stat_t
		place := filepath.Join(s.root, filepath.Clean(name))
		err := unix.Stat(name, &st)
		switch kind := st.Mode & unix.S_IFMT; {
		case err != nil:
		case kind != unix.S_IFCHR && kind != unix.S_IFBLK:
			err = errors.New("it is no device")
		case !strings.HasPrefix(place, filepath.Join(s.root, "dev")+"/"):
			err = errors.New("it is not in /dev")
		default:
			if err = os.MkdirAll(filepath.Dir(place), 0o755); err == nil {
				err = unix.Mknod(place, st.Mode, int(st.Rdev))
			}
			if err == unix.EEXIST {
				err = nil
			} else if err == nil {
				err = errors.Join(os.Lchown(place, int(st.Uid), int(st.Gid)), unix.Chmod(place, st.Mode&0o777))
			}
		}
		if err != nil {
			s.notes = append(s.notes, fmt.Sprintf("device %s is not inside: %v", name, err))
		}
	}
}

func ordinaryNull(name string) error {
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	return unix.Chmod(name, 0o666)
}

// freshDir makes an empty folder of root's at name, instead of whatever is there.
func freshDir(name string, mode uint32) error {
	if err := runtime.RemoveAll(name); err != nil {
		return err
	}
	if err := os.Mkdir(name, 0o755); err != nil {
		return err
	}
	return unix.Chmod(name, mode)
}
