package scrub

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// Stands implements snapshot.Rules. No content of a shadow file is needed, or
// ever used: what is made of the accounts comes from passwd and group. content is
// any of the host's login.defs (for the range of people's ids), passwd and group,
// one after the other; their lines tell themselves apart. So a caller gives
//
//	etc/passwd, etc/shadow, etc/subuid, etc/subgid   login.defs + passwd
//	etc/group, etc/gshadow                           login.defs + passwd + group
//	the others                                       nothing
//
// and asks with nil and no owners whether anything stands for a path at all.
func (r *Rules) Stands(path string, content []byte, keeps snapshot.Owners) ([]byte, string, bool) {
	if r.named(path) {
		return nil, "", false
	}
	switch path {
	case "etc/machine-id", "var/lib/dbus/machine-id":
		return []byte{}, "an empty machine-id is filled at the first boot", true // machine-id(5)
	case "etc/hostname":
		return []byte("localhost\n"), "a host's name stays with it", true
	case "etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/subuid", "etc/subgid":
	default:
		return nil, "", false
	}
	a := readAccounts(content)
	var b bytes.Buffer
	reason := "people stay on the host"
	switch path {
	case "etc/passwd":
		a.passwd(&b, keeps)
	case "etc/shadow":
		a.shadow(&b, keeps)
		reason = "every password is locked"
	case "etc/group":
		a.group(&b, keeps)
	case "etc/gshadow":
		a.gshadow(&b, keeps)
		reason = "every password is locked"
	case "etc/subuid", "etc/subgid":
		// Ranges belong to people: passwd alone can't tell those of others.
	}
	return append([]byte{}, b.Bytes()...), reason, true
}

// account is a line of passwd or group, cut at its colons.
type account struct {
	fields []string
	id     uint32
	person bool
}

type accounts struct {
	users, groups []account
	systemUsers   map[string]bool
}

const maxAccount = 64 << 10 // bytes of a line

// readAccounts tells lines by their fields: passwd(5) has seven, group(5) four.
func readAccounts(content []byte) *accounts {
	a := &accounts{systemUsers: map[string]bool{}}
	limits := map[string]uint32{"UID_MIN": 1000, "UID_MAX": 60000, "GID_MIN": 1000, "GID_MAX": 60000}
	for line := range bytes.SplitSeq(content, []byte("\n")) {
		if len(line) > maxAccount || len(line) == 0 || line[0] == '#' {
			continue
		}
		if w := strings.Fields(string(line)); len(w) == 2 && limits[w[0]] != 0 {
			if n, err := strconv.ParseUint(w[1], 0, 32); err == nil && n > 0 {
				limits[w[0]] = uint32(n)
			}
			continue
		}
		f := strings.Split(string(line), ":")
		if len(f) != 7 && len(f) != 4 || !accountName(f[0]) {
			continue // NIS's "+" lines are among these
		}
		id, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			continue
		}
		if len(f) == 4 {
			a.groups = append(a.groups, account{fields: f, id: uint32(id)})
		} else if _, err := strconv.ParseUint(f[3], 10, 32); err == nil {
			a.users = append(a.users, account{fields: f, id: uint32(id)})
		}
	}
	for i, u := range a.users {
		a.users[i].person = isPerson(u.id, limits["UID_MIN"], limits["UID_MAX"])
		if !a.users[i].person {
			a.systemUsers[u.fields[0]] = true
		}
	}
	for i, g := range a.groups {
		a.groups[i].person = isPerson(g.id, limits["GID_MIN"], limits["GID_MAX"])
		// Without passwd at hand: system users have groups of their own name.
		if len(a.users) == 0 && !a.groups[i].person {
			a.systemUsers[g.fields[0]] = true
		}
	}
	return a
}

// isPerson takes what useradd gives to people, and what directories of large
// organizations give; between the two lie ids that packages ask for (Debian
// policy 9.2.2) and nobody.
func isPerson(id, low, high uint32) bool {
	return id >= low && id <= high || id > 65535
}

func accountName(s string) bool {
	return s != "" && s[0] != '+' && s[0] != '-' && !strings.ContainsAny(s, " \t,/")
}

// passwd keeps system users but for a password that is in the open, and for what
// tells of a person; people only where they own a kept file, by name and ids alone.
func (a *accounts) passwd(b *bytes.Buffer, keeps snapshot.Owners) {
	for _, u := range a.users {
		f := u.fields
		switch {
		case !u.person:
			writeLine(b, f[0], mark(f[1]), f[2], f[3], u.comment(), f[5], f[6])
		case keeps.Users[u.id]:
			writeLine(b, f[0], "x", f[2], f[3], "", "/nonexistent", "/usr/sbin/nologin")
		}
	}
}

// firstShared is the first id that differs between hosts (Debian policy 9.2.2): the
// accounts before it are the distribution's own.
const firstShared = 100

// comment is the name of what a system account is for. Rooms and telephones stay, after
// the first comma, and all of it where somebody may log in: that account may well be
// called after a person.
func (u account) comment() string {
	shell := u.fields[6][strings.LastIndexByte(u.fields[6], '/')+1:]
	switch strings.TrimRight(shell, " \t\r") {
	case "", "nologin", "false", "sync", "halt", "shutdown":
	default:
		if u.id >= firstShared {
			return ""
		}
	}
	name, _, _ := strings.Cut(u.fields[4], ",")
	return name
}

// mark keeps the password field where it is one of the marks for "elsewhere" and
// "none"; anything else may be a hash.
func mark(s string) string {
	switch s {
	case "*", "!", "!!", "x":
		return s
	}
	return "x"
}

// shadow locks every account (shadow(5)); no dates, because a date differs on
// every host and an old one would ask for a new password.
func (a *accounts) shadow(b *bytes.Buffer, keeps snapshot.Owners) {
	for _, u := range a.users {
		if !u.person || keeps.Users[u.id] {
			writeLine(b, u.fields[0], "*", "", "", "", "", "", "", "")
		}
	}
}

func (a *accounts) group(b *bytes.Buffer, keeps snapshot.Owners) {
	for _, g := range a.keptGroups(keeps) {
		writeLine(b, g.fields[0], mark(g.fields[1]), g.fields[2], a.members(g))
	}
}

func (a *accounts) gshadow(b *bytes.Buffer, keeps snapshot.Owners) {
	for _, g := range a.keptGroups(keeps) {
		writeLine(b, g.fields[0], "*", "", a.members(g))
	}
}

func (a *accounts) keptGroups(keeps snapshot.Owners) []account {
	var kept []account
	for _, g := range a.groups {
		if !g.person || keeps.Groups[g.id] {
			kept = append(kept, g)
		}
	}
	return kept
}

// members are the system users in a group.
func (a *accounts) members(g account) string {
	var kept []string
	for m := range strings.SplitSeq(g.fields[3], ",") {
		if a.systemUsers[m] {
			kept = append(kept, m)
		}
	}
	return strings.Join(kept, ",")
}

func writeLine(b *bytes.Buffer, fields ...string) {
	b.WriteString(strings.Join(fields, ":"))
	b.WriteByte('\n')
}
