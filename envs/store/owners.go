package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Owners are the owners that this process can give to files. What it can't hold on
// disk only the manifests know.
type Owners struct {
	name       string // of the id mapping; "" is the machine's own
	uids, gids []idRange
	all        bool // a machine's own root, who can set everything
}

// idRange are count ids from first on.
type idRange struct{ first, count uint32 }

func (r idRange) has(id uint32) bool { return id >= r.first && id-r.first < r.count }

// Single begins the names of mappings in which all files are the user's own.
const Single = "single-"

// everything is the id mapping of the machine itself: user_namespaces(7).
const everything = "0 0 4294967295"

// ReadOwners finds out what this process can do. An ordinary user's can set no
// owner, and so can't one in a user namespace where nobody but the user is mapped;
// in one with more ids those that are mapped can be held.
func ReadOwners() (Owners, error) {
	alone := Owners{name: fmt.Sprintf("%s%d", Single, os.Geteuid())}
	uids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return alone, fmt.Errorf("reading the id mapping: %w", err)
	}
	gids, err := os.ReadFile("/proc/self/gid_map")
	if err != nil {
		return alone, fmt.Errorf("reading the id mapping: %w", err)
	}
	if !canChown() {
		return alone, nil
	}
	return mapped(uids, gids, alone)
}

// canChown reports whether this process has CAP_CHOWN, over whatever ids.
func canChown() bool {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_CHOWN) != 0
}

// mapped reads /proc/self/uid_map and gid_map.
func mapped(uids, gids []byte, alone Owners) (Owners, error) {
	o := Owners{}
	var spelt strings.Builder
	for _, m := range []struct {
		text []byte
		ids  *[]idRange
	}{{uids, &o.uids}, {gids, &o.gids}} {
		for line := range bytes.Lines(m.text) {
			f := strings.Fields(string(line))
			if len(f) != 3 {
				return alone, fmt.Errorf("reading the id mapping: %q has not three numbers", line)
			}
			first, err1 := strconv.ParseUint(f[0], 10, 32)
			count, err2 := strconv.ParseUint(f[2], 10, 32)
			if err1 != nil || err2 != nil {
				return alone, fmt.Errorf("reading the id mapping: %q has not three numbers", line)
			}
			*m.ids = append(*m.ids, idRange{uint32(first), uint32(count)})
			spelt.WriteString(strings.Join(f, " ") + "\n")
		}
		spelt.WriteString("\n")
	}
	switch text := spelt.String(); {
	case text == everything+"\n\n"+everything+"\n\n":
		o.all = true
	case !o.Holds(0, 0):
		return alone, nil
	default:
		sum := sha256.Sum256([]byte(text))
		o.name = "sub-" + hex.EncodeToString(sum[:6])
	}
	return o, nil
}

// Name names the id mapping that files are owned by; "" is the machine's own. What
// was made under one isn't what another would make.
func (o Owners) Name() string { return o.name }

// Any reports whether owners are on disk at all, as far as they are mapped.
func (o Owners) Any() bool { return o.all || len(o.uids) > 0 }

// Holds reports whether a file on disk has these owners.
func (o Owners) Holds(uid, gid uint32) bool {
	return o.all || holds(o.uids, uid) && holds(o.gids, gid)
}

func holds(ranges []idRange, id uint32) bool {
	for _, r := range ranges {
		if r.has(id) {
			return true
		}
	}
	return false
}

// HoldsAttribute reports whether a file on disk has this extended attribute.
func (o Owners) HoldsAttribute(name, value string) bool {
	switch {
	case o.all || strings.HasPrefix(name, "user."):
		return true
	case name == "security.capability":
		return holds(o.uids, 0)
	case strings.HasPrefix(name, "system.posix_acl_"):
		return o.Any() && o.holdsACL(value)
	}
	return false
}

// holdsACL looks at the ids in an access control list: struct posix_acl_xattr_header
// of four bytes, then entries of tag, permissions and id.
func (o Owners) holdsACL(value string) bool {
	const user, group = 0x02, 0x08
	for list := []byte(value)[min(4, len(value)):]; len(list) >= 8; list = list[8:] {
		id := binary.LittleEndian.Uint32(list[4:])
		switch binary.LittleEndian.Uint16(list) {
		case user:
			if !holds(o.uids, id) {
				return false
			}
		case group:
			if !holds(o.gids, id) {
				return false
			}
		}
	}
	return true
}
