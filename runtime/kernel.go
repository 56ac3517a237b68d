package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Kernel is another kernel than this machine's, for what a session can see of it.
// uname(2) still tells this machine's own: no namespace changes that.
type Kernel struct {
	Release string // shown in /proc/sys/kernel/osrelease
	Version string // shown in /proc/version; "" is made of the release
	// Syscalls are the system calls that it has, by libseccomp's names. All others
	// answer ENOSYS. None stands for all of this machine's.
	Syscalls []string

	folder string // of the files to show; WriteFiles makes them
}

// KernelHook is the name that a copy of this program is started by to show a
// kernel's files: see session.Hook. Nobody types it.
const KernelHook = "stead: kernel hook"

// KernelFiles are the files in a folder that KernelHook gets, and the places below
// /proc that they are shown at. OCI runtimes refuse such mounts in a specification.
var KernelFiles = []struct{ Name, Place string }{
	{"version", "version"},
	{"osrelease", "sys/kernel/osrelease"},
}

// RefuseKernel is for engines that have no system call filter.
func RefuseKernel(spec Spec, engine string) error {
	if spec.Kernel == nil {
		return nil
	}
	return &Error{Op: "showing the kernel of " + spec.Name, Code: CodeEngine,
		Err: fmt.Errorf("the %s engine can't filter system calls", engine), Remedy: "use --engine embedded, or --kernel own"}
}

// write makes the files that the kernel shows.
func (k *Kernel) write(dir string) (*Kernel, error) {
	shown := *k
	shown.folder = filepath.Join(dir, "kernel")
	if err := os.Mkdir(shown.folder, 0o700); err != nil {
		return nil, err
	}
	if shown.Version == "" {
		shown.Version = "Linux version " + k.Release
	}
	for _, f := range KernelFiles {
		text := shown.Version
		if f.Name == "osrelease" {
			text = k.Release
		}
		name := filepath.Join(shown.folder, f.Name)
		if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
			return nil, err
		}
		if err := os.Chmod(name, 0o444); err != nil {
			return nil, err
		}
	}
	return &shown, nil
}

// hooks let the OCI runtime start this program in the session's mount namespace.
func (k *Kernel) hooks() (*specs.Hooks, error) {
	if k == nil || k.folder == "" {
		return nil, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	return &specs.Hooks{CreateContainer: []specs.Hook{{Path: self, Args: []string{KernelHook, k.folder}}}}, nil
}

// started are the calls that an OCI runtime has nothing instead of when it makes them
// between loading the filter and starting the command: they are Go's own, for files and
// for giving back the limit of open files. Only kernels before 2.6.36 lack some of them.
var started = []string{"epoll_create1", "epoll_pwait", "eventfd2", "pipe2", "prlimit64"}

// private are calls of ARM that stand in no table of the kernel's.
var private = []string{"breakpoint", "cacheflush", "set_tls"}

// limit takes out of a filter what the kernel lacks.
func (k *Kernel) limit(filter *specs.LinuxSeccomp) {
	if k == nil || len(k.Syscalls) == 0 {
		return
	}
	has := map[string]bool{}
	for _, list := range [][]string{k.Syscalls, started, private} {
		for _, name := range list {
			has[name] = true
		}
	}
	var rules []specs.LinuxSyscall
	for _, rule := range filter.Syscalls {
		rule.Names = slices.DeleteFunc(slices.Clone(rule.Names), func(name string) bool { return !has[name] })
		if len(rule.Names) > 0 {
			rules = append(rules, rule)
		}
	}
	filter.Syscalls = rules
}
