// Package rootless gives the process of an ordinary user a user namespace of its
// own: the program starts itself once more in there, with every capability over
// the ids that are mapped, and with the user's own uid and gid. Those are mapped
// to themselves, so that what it writes belongs to the user; beside them are the
// user's subordinate ids, where there are any. It says what is missing, and what
// to do about it.
package rootless

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime/session"
)

// variable tells a process that Enter started it, and as which kind.
const (
	variable = "STEAD_NAMESPACE"
	waiting  = "subordinate" // its ids are being mapped: descriptor 3 says when that is done
	single   = "single "     // before the reason
)

// Needed reports whether this process has to Enter for its work: it isn't root, and
// has none of the capabilities that a namespace would give it.
func Needed() bool {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return os.Geteuid() != 0 && (unix.Capget(&header, &data[0]) != nil || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0)
}

// Await completes the start of a process that Enter started. In any other inside is
// false. alone says why the user's own ids are the only ones; "" where they aren't.
// It has to be called before anything asks for a uid.
func Await() (inside bool, alone string, err error) {
	kind, ok := os.LookupEnv(variable)
	if !ok {
		return false, "", nil
	}
	if err := os.Unsetenv(variable); err != nil {
		return false, "", err
	}
	if kind == waiting {
		pipe := os.NewFile(3, "namespace")
		defer pipe.Close()
		if n, err := pipe.Read(make([]byte, 1)); n != 1 {
			return false, "", fmt.Errorf("waiting for the ids of a user namespace: %w", err)
		}
	}
	if why, ok := strings.CutPrefix(kind, single); ok {
		return true, why, nil
	}
	return true, "", nil
}

// Enter starts this program once more in a user namespace with those ids, with the
// same arguments and streams, and returns its exit code; when a signal ended it,
// the same ends this process. An error is a *runtime.Error, and means that nothing
// was started. This process must not be used for anything else meanwhile.
func Enter(ids Ids) (code int, err error) {
	// The child dies with the thread that started it.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	if restricted() { // the namespace could be made, and would be of no use
		return 0, Problem(unix.EACCES)
	}
	signals := session.CatchSignals() // the child may be up before its ids are seen to be written
	defer signals.Stop()
	var cmd *exec.Cmd
	if ids.Why == nil {
		cmd, err = startMapped(ids)
		if errors.As(err, new(*mapError)) { // another one can't be tried on the same process
			ids = alone(err)
		} else if err != nil {
			return 0, Problem(err)
		}
	}
	if ids.Why != nil {
		cmd = command(single + ids.reason())
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		if err := cmd.Start(); err != nil {
			return 0, Problem(err)
		}
	}
	pass(signals, cmd.Process)
	err = cmd.Wait()
	if cmd.ProcessState == nil {
		return 0, fmt.Errorf("waiting for the process in the user namespace: %w", err)
	}
	return endLike(cmd.ProcessState), nil
}

// command is this program once more, in a user namespace.
func command(kind string) *exec.Cmd {
	return &exec.Cmd{
		Path: "/proc/self/exe", Args: os.Args, Env: append(os.Environ(), variable+"="+kind),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, AmbientCaps: capabilities(), Pdeathsig: unix.SIGKILL},
	}
}

// capabilities are all that the kernel knows: a new user namespace gives them, and
// only ambient ones outlive the start of a program that isn't root's.
func capabilities() []uintptr {
	var all []uintptr
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if unix.Prctl(unix.PR_CAPBSET_READ, c, 0, 0, 0) == nil {
			all = append(all, c)
		}
	}
	return all
}

// mapError says that newuidmap or newgidmap failed.
type mapError struct{ err error }

func (e *mapError) Error() string { return e.err.Error() }
func (e *mapError) Unwrap() error { return e.err }

// startMapped starts this program and has its ids mapped. It is loading meanwhile.
func startMapped(ids Ids) (*exec.Cmd, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	defer r.Close()
	cmd := command(waiting)
	cmd.ExtraFiles = []*os.File{r}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err = ids.write(cmd.Process.Pid); err == nil {
		_, err = w.Write([]byte{1})
	}
	if err != nil {
		return nil, errors.Join(&mapError{err}, cmd.Process.Kill(), wait(cmd))
	}
	return cmd, nil
}

// wait waits for a killed process.
func wait(cmd *exec.Cmd) error {
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		return err
	}
	return nil
}

// write has newuidmap and newgidmap, which are root's, map the ids of a process.
func (ids Ids) write(pid int) error {
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, tool := range []struct {
		name  string
		spans []span
	}{{"newuidmap", ids.uids}, {"newgidmap", ids.gids}} {
		args := []string{strconv.Itoa(pid)}
		for _, s := range tool.spans {
			args = append(args, fmt.Sprint(s.inside), fmt.Sprint(s.outside), fmt.Sprint(s.count))
		}
		wg.Go(func() {
			if out, err := exec.Command(tool.name, args...).CombinedOutput(); err != nil {
				errs[i] = toolProblem(tool.name, err, strings.TrimSpace(string(out)))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
