package machine

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Account is about who this is: commands that give subordinate ids know only
// accounts of this machine's own.
func Account() Check {
	c := Check{Name: "account", For: "Subordinate ids are given to accounts by name, or else by number."}
	uid := os.Getuid()
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return c.with(Warning, "%v", err)
	}
	if name, ok := accountOf(string(passwd), uid); ok {
		return c.with(OK, "%s, uid %d", name, uid)
	}
	c.Remedy = fmt.Sprintf("where usermod doesn't know you, by number: echo %d:FIRST:65536 | sudo tee -a /etc/subuid /etc/subgid, "+
		"with the free range that is named below", uid)
	return c.with(Warning, "uid %d is not in /etc/passwd, as with LDAP or Active Directory", uid)
}

// accountOf finds a uid in passwd(5).
func accountOf(passwd string, uid int) (string, bool) {
	for line := range strings.Lines(passwd) {
		if f := strings.Split(line, ":"); len(f) >= 7 && f[2] == strconv.Itoa(uid) {
			return f[0], true
		}
	}
	return "", false
}

// Programs is about the programs that stead starts.
func Programs() []Check {
	var list []Check
	for _, p := range []struct{ name, what string }{
		{"git", "A project is the repository around the current folder, and commits made inside carry your name."},
		{"ssh", "Hosts are read over ssh."},
		{"sudo", "As an ordinary user, what only root may read on a host is read through it."},
	} {
		c := Check{Name: p.name, For: p.what}
		if path, err := exec.LookPath(p.name); err == nil {
			list = append(list, c.with(OK, "%s", path))
			continue
		}
		c.Remedy = "install " + map[string]string{"git": "git", "ssh": "openssh-client", "sudo": "sudo"}[p.name]
		list = append(list, c.with(Warning, "it isn't on PATH"))
	}
	return list
}
