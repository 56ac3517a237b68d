package envs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stead-env/stead/runtime"
)

// account is who somebody is inside.
type account struct {
	name, home, shell string
	files             []runtime.File // passwd and group, where the target's don't do
}

// person finds the account of a uid in a root. Where the root has none the
// developer's own name stands in, in a passwd of the session's own. shell is the
// developer's.
func person(ctx context.Context, root rootView, uid, gid uint32, shell string) account {
	passwd, group := root.read("/etc/passwd"), root.read("/etc/group")
	id := strconv.FormatUint(uint64(uid), 10)
	if f := record(passwd, 2, id); len(f) >= 7 {
		a := account{name: f[0], home: f[5], shell: f[6]}
		a.pickShell(root, shell)
		if !livable(a.home) {
			// daemon lives in /usr/sbin: a home there would hide the target's programs.
			a.home = "/home/" + a.name
			line := passwdLine(a, uid, gid)
			a.files = append(a.files, runtime.File{Path: "/etc/passwd", Content: replaceLine(passwd, id, line)})
		}
		return a
	}
	a := developer(ctx, uid, id)
	if !plain(a.name) || record(passwd, 0, a.name) != nil {
		a.name = "user" + id
	}
	if !livable(a.home) {
		a.home = "/home/" + a.name
	}
	a.pickShell(root, shell)
	if len(passwd) == 0 && uid != 0 {
		passwd = []byte("root:x:0:0:root:/root:/bin/sh\n")
	}
	if len(group) == 0 && gid != 0 {
		group = []byte("root:x:0:\n")
	}
	a.files = append(a.files, runtime.File{Path: "/etc/passwd", Content: appendLine(passwd, passwdLine(a, uid, gid))})
	if record(group, 2, strconv.FormatUint(uint64(gid), 10)) == nil {
		name := a.name
		if record(group, 0, name) != nil {
			name = fmt.Sprint("group", gid)
		}
		line := fmt.Sprintf("%s:x:%d:\n", name, gid)
		a.files = append(a.files, runtime.File{Path: "/etc/group", Content: appendLine(group, line)})
	}
	return a
}

func passwdLine(a account, uid, gid uint32) string {
	return fmt.Sprintf("%s:x:%d:%d::%s:%s\n", a.name, uid, gid, a.home, a.shell)
}

// developer is who has a uid on this machine. Users whom only a directory service
// knows are asked for with getent(1): this program is no client of those.
func developer(ctx context.Context, uid uint32, id string) account {
	a := account{name: "user"}
	if uid == 0 {
		a = account{name: "root", home: "/root"}
	}
	passwd, err := readBounded("/etc/passwd", maxConfig)
	f := record(passwd, 2, id)
	if err != nil || len(f) < 7 {
		f = record(getent(ctx, id), 2, id)
	}
	if len(f) >= 7 {
		a = account{name: f[0], home: f[5]}
	}
	if int(uid) != os.Getuid() {
		return a
	}
	if home, err := homeDir(); err == nil && !homeless() {
		a.home = home
	}
	return a
}

// patience is how long a directory service may take; without its answer nobody is
// worse off than unnamed.
const patience = 3 * time.Second

// getent is what this machine's name services know of a uid.
func getent(ctx context.Context, id string) []byte {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "getent", "passwd", id).Output()
	if err != nil {
		return nil
	}
	return out
}

// livable reports whether a home folder can be shown there: it must hide nothing of
// the target's.
func livable(home string) bool {
	if !path.IsAbs(home) || !plain(home) {
		return false
	}
	home = path.Clean(home)
	if slices.Contains(systemDirs, home) || home == "/home" {
		return false
	}
	for _, dir := range systemDirs {
		if _, below := strings.CutPrefix(home, dir+"/"); below && dir != "/var" && dir != "/" {
			return false
		}
	}
	return true
}

// plain reports whether s can stand in a field of passwd.
func plain(s string) bool { return s != "" && !strings.ContainsAny(s, ":\n\x00") }

// record finds the line of passwd(5) or group(5) with value in a field.
func record(data []byte, field int, value string) []string {
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) > field && f[field] == value {
			return f
		}
	}
	return nil
}

// replaceLine is a passwd with another line for the first account of that id.
func replaceLine(data []byte, id, line string) []byte {
	var b strings.Builder
	done := false
	for old := range strings.Lines(string(data)) {
		if f := strings.Split(old, ":"); !done && len(f) > 2 && f[2] == id {
			old, done = line, true
		}
		b.WriteString(old)
	}
	return []byte(b.String())
}

func appendLine(data []byte, line string) []byte {
	data = slices.Clone(data)
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	return append(data, line...)
}

// closed are programs that stand for a shell and let nobody in.
var closed = []string{"nologin", "false", "true", "sync", "halt", "shutdown", "git-shell"}

// pickShell settles the account's shell: its own where the target has that, at the
// same place or another, else the developer's, else bash, else sh.
func (a *account) pickShell(root rootView, own string) {
	for _, shell := range []string{a.shell, own, "/bin/bash"} {
		base := path.Base(shell)
		if !path.IsAbs(shell) || !plain(shell) || slices.Contains(closed, base) {
			continue
		}
		for _, at := range []string{path.Clean(shell), "/bin/" + base, "/usr/bin/" + base, "/usr/local/bin/" + base} {
			if root.program(at) {
				a.shell = at
				return
			}
		}
	}
	a.shell = "/bin/sh"
}
