package rootless

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

func problem(op string, err error, remedy string) *runtime.Error {
	return &runtime.Error{Op: op, Code: runtime.CodeEngine, Err: err, Remedy: remedy}
}

// Check reports why this user can't have a user namespace, or nil. The error is a
// *runtime.Error.
func Check() error {
	if restricted() {
		return Problem(unix.EACCES)
	}
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}}
	if err := cmd.Run(); err != nil {
		return Problem(err)
	}
	return nil
}

// Problem finds out why a user namespace could not be made with that error.
func Problem(err error) error {
	if e, ok := errors.AsType[*runtime.Error](err); ok {
		return e
	}
	const op = "making a user namespace"
	sysctl := func(name, value string) string {
		return fmt.Sprintf("sudo sysctl -w %s=%s; in a file in /etc/sysctl.d it stays so", name, value)
	}
	_, missing := os.Stat("/proc/self/ns/user")
	switch {
	case errors.Is(missing, fs.ErrNotExist):
		return problem(op, errors.New("this kernel has none"), "use a kernel with CONFIG_USER_NS, or run as root")
	case setting("user/max_user_namespaces") == "0":
		return problem(op, errors.New("user.max_user_namespaces is 0"), sysctl("user.max_user_namespaces", "15000"))
	case errors.Is(err, unix.ENOSPC):
		return problem(op, errors.New("there are as many as user.max_user_namespaces allows"), sysctl("user.max_user_namespaces", "15000"))
	case setting("kernel/unprivileged_userns_clone") == "0":
		return problem(op, errors.New("kernel.unprivileged_userns_clone is 0"), sysctl("kernel.unprivileged_userns_clone", "1"))
	case restricted():
		return problem(op, errors.New("AppArmor allows it to programs with a profile alone (kernel.apparmor_restrict_unprivileged_userns is 1)"),
			apparmorRemedy())
	case strings.Contains(status("Seccomp:"), "2"):
		return problem(op, fmt.Errorf("%w: a system call filter is on, as in containers", err),
			"start the container around with --security-opt seccomp=unconfined, or be root in it")
	}
	return problem(op, err, "run as root")
}

// restricted reports whether Ubuntu's rule takes the capabilities in a new user
// namespace from this process. A profile for the program lifts it.
func restricted() bool {
	if setting("kernel/apparmor_restrict_unprivileged_userns") != "1" {
		return false
	}
	for _, file := range []string{"/proc/self/attr/apparmor/current", "/proc/self/attr/current"} {
		if label, err := os.ReadFile(file); err == nil {
			return string(bytes.Trim(label, "\n\x00")) == "unconfined"
		}
	}
	return true
}

// apparmorRemedy writes a profile that says nothing but that this program may.
func apparmorRemedy() string {
	self, err := os.Executable()
	if err != nil {
		self = "/usr/local/bin/stead"
	}
	return fmt.Sprintf(`printf 'abi <abi/4.0>,\nprofile stead "%s" flags=(unconfined) {\n  userns,\n}\n' | sudo tee /etc/apparmor.d/stead`+
		` && sudo apparmor_parser -r /etc/apparmor.d/stead`, self)
}

// setting is a value below /proc/sys; "" where there is none.
func setting(name string) string {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// status is a field of this process's status; "" where there is none.
func status(field string) string {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

const opSubordinate = "looking for subordinate ids"

// checkRanges reports why ranges are of no use. Of what is missing it says how to add
// it, after all that others have.
func checkRanges(ranges []Range, groups bool, own uint32, name string) error {
	file, what := "/etc/subuid", "uids"
	if groups {
		file, what = "/etc/subgid", "gids"
	}
	total := uint64(0)
	for _, r := range ranges {
		total += uint64(r.Count)
		if own >= r.First && own-r.First < r.Count {
			return problem(opSubordinate, fmt.Errorf("a range of %s in %s holds your own, %d", name, file, own), "")
		}
	}
	free := firstFree()
	remedy := fmt.Sprintf("sudo usermod --add-subuids %d-%d --add-subgids %d-%d %s", free, free+enough-1, free, free+enough-1, name)
	if name == "" {
		name, remedy = fmt.Sprintf("uid %d", own), "ask for subordinate ids for your account"
	}
	switch {
	case total == 0:
		return problem(opSubordinate, fmt.Errorf("%s has no %s for %s", file, what, name), remedy)
	case total < enough:
		return problem(opSubordinate, fmt.Errorf("%s has %d %s for %s, fewer than %d", file, total, what, name, enough), remedy)
	}
	return nil
}

// firstFree is the first id after all ranges of both files, and no person's.
func firstFree() uint64 {
	free := uint64(100000) // login.defs(5), SUB_UID_MIN
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 3 {
				for _, r := range appendRange(nil, f[1], f[2]) {
					free = max(free, uint64(r.First)+uint64(r.Count))
				}
			}
		}
	}
	return free
}

// checkTools reports why newuidmap and newgidmap can't do their work.
func checkTools() error {
	for _, name := range []string{"newuidmap", "newgidmap"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return problem(opSubordinate, fmt.Errorf("%s isn't on PATH", name), "install uidmap (Debian, Ubuntu) or shadow-utils")
		}
		info, err := os.Stat(path)
		if err != nil {
			return problem(opSubordinate, err, "")
		}
		if _, err := unix.Getxattr(path, "security.capability", nil); err != nil && info.Mode()&fs.ModeSetuid == 0 {
			return problem(opSubordinate, fmt.Errorf("%s is neither setuid nor has it capabilities", path), "sudo chmod u+s "+path)
		}
	}
	return nil
}

// toolProblem says why newuidmap or newgidmap failed.
func toolProblem(name string, err error, said string) error {
	if status("NoNewPrivs:") == "1" {
		return problem("running "+name, errors.New("what runs here may gain no privileges (no_new_privs), which it needs"), "")
	}
	path, _ := exec.LookPath(name)
	var st unix.Statfs_t
	if unix.Statfs(path, &st) == nil && st.Flags&unix.ST_NOSUID != 0 {
		return problem("running "+name, fmt.Errorf("%s is on a file system that is mounted nosuid", path), "")
	}
	if said == "" {
		said = err.Error()
	}
	return problem("running "+name, errors.New(said), "")
}
