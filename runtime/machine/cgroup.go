package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// layout is how control groups are mounted.
type layout struct {
	v1, v2 bool
	root   string // of version 2
}

// cgroups reads a table of mounts: proc_pid_mountinfo(5).
func cgroups(mountinfo string) (l layout) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		kind, _, _ := strings.Cut(after, " ")
		place := strings.Fields(before)
		if !ok || len(place) < 5 || !strings.HasPrefix(place[4], "/sys/fs/cgroup") {
			continue
		}
		switch kind {
		case "cgroup":
			l.v1 = true
		case "cgroup2":
			l.v2, l.root = true, place[4]
		}
	}
	return l
}

func (l layout) String() string {
	switch {
	case l.v1 && l.v2:
		return "version 1, and version 2 beside it"
	case l.v2:
		return "version 2"
	case l.v1:
		return "version 1"
	}
	return "none are mounted"
}

func readLayout() layout {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	return cgroups(string(text))
}

// Cgroups is about control groups. Sessions set no limits: as root one holds the rule
// for devices, an ordinary user's session has none.
func Cgroups() Check {
	c := Check{Name: "cgroups", For: "OCI runtimes want control groups: root's sessions have one, by which devices are refused."}
	l := readLayout()
	if !l.v1 && !l.v2 {
		c.Remedy = "sudo mount -t cgroup2 none /sys/fs/cgroup"
		return c.with(Warning, "%s", l)
	}
	found := l.String()
	if l.v2 && !l.v1 && os.Geteuid() != 0 {
		found += ", " + delegation(l.root)
	}
	return c.with(OK, "%s", found)
}

// delegation says whether this user may make control groups below its own.
func delegation(root string) string {
	text, _ := os.ReadFile("/proc/self/cgroup")
	_, own, ok := strings.Cut(strings.TrimSpace(string(text)), "0::")
	if ok && unix.Access(filepath.Join(root, own), unix.W_OK) == nil {
		return "delegated to you"
	}
	return "not delegated to you, which isn't needed"
}

// Runtimes is about the OCI runtimes on PATH.
func Runtimes() []Check {
	const what = "The embedded engine starts sessions with one of runc and crun."
	var list []Check
	l := readLayout()
	for _, name := range []string{"runc", "crun"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		c := Check{Name: name, For: what}
		out, err := exec.Command(path, "--version").CombinedOutput()
		if err != nil {
			c.Remedy = "install it again"
			list = append(list, c.with(Missing, "%s --version: %v", path, err))
			continue
		}
		version := runtimeVersion(string(out))
		if major, minor := numbers(version); name == "crun" && (major < 1 || major == 1 && minor < 9) && l.v1 && l.v2 {
			c.Remedy = "install runc, or crun 1.9 or later"
			list = append(list, c.with(Warning, "%s %s drops controllers where both versions of cgroups are mounted", path, version))
			continue
		}
		list = append(list, c.with(OK, "%s %s", path, version))
	}
	if len(list) == 0 {
		list = append(list, Check{Name: "runc", For: what, Remedy: "sudo apt-get install runc (Fedora: sudo dnf install crun)"}.
			with(Missing, "neither runc nor crun is on PATH"))
	}
	return list
}

// runtimeVersion reads what runc and crun answer: "runc version 1.1.5+ds1".
func runtimeVersion(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	_, version, ok := strings.Cut(line, " version ")
	if !ok {
		return fmt.Sprintf("(%.40s)", line)
	}
	return strings.TrimSpace(version)
}
