package rootless

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// Ids are the ids that a namespace will have.
type Ids struct {
	uids, gids []span
	// Why says why the user's own uid and gid are the only ones; nil where there are
	// subordinate ids. It is a *runtime.Error.
	Why error
}

// span maps count ids.
type span struct{ inside, outside, count uint32 }

// Range is a row of ids in /etc/subuid or /etc/subgid.
type Range struct{ First, Count uint32 }

// enough is how many subordinate ids a system needs: packages are made for ids of
// 16 bits, and nobody is 65534.
const enough = 1 << 16

// Find finds the ids that this user can have for trees in the folder store, which
// needn't exist yet.
func Find(store string) Ids {
	if err := holdsOwners(store); err != nil {
		return alone(err)
	}
	ids, err := Subordinate()
	if err != nil {
		return alone(err)
	}
	return ids
}

func alone(why error) Ids { return Ids{Why: why} }

// reason is why there is one id, in a line.
func (ids Ids) reason() string {
	text := strings.ReplaceAll(ids.Why.Error(), "\n", "; ")
	if e, ok := errors.AsType[*runtime.Error](ids.Why); ok && e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

// Subordinate finds this user's subordinate ids, and whether they can be used. The
// error is a *runtime.Error.
func Subordinate() (Ids, error) {
	name, uid, gid := account()
	var found [2][]Range
	for i, file := range []string{"/etc/subuid", "/etc/subgid"} {
		var err error
		if found[i], err = rangesOf(file, name, uid); err != nil {
			return Ids{}, problem("reading "+file, err, "")
		}
	}
	for i, own := range []uint32{uid, gid} {
		if err := checkRanges(found[i], i == 1, own, name); err != nil {
			return Ids{}, err
		}
	}
	if err := checkTools(); err != nil {
		return Ids{}, err
	}
	return Ids{uids: layOut(uid, found[0]), gids: layOut(gid, found[1])}, nil
}

// account is who this is. Without a line in passwd(5), as with some directory
// services, it is whoever the session says; newuidmap asks again.
func account() (name string, uid, gid uint32) {
	uid, gid = uint32(os.Getuid()), uint32(os.Getgid())
	if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
		return u.Username, uid, gid
	}
	return os.Getenv("USER"), uid, gid
}

// maxRanges bounds the ranges of one user: the kernel takes 340 rows.
const maxRanges = 100

// rangesOf finds a user's ranges in a file, or where /etc/nsswitch.conf says that
// they are kept elsewhere, by getsubids(1).
func rangesOf(file, name string, uid uint32) ([]Range, error) {
	f, err := os.Open(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		defer f.Close()
		ranges, err := ParseRanges(f, name, uid)
		if err != nil || len(ranges) > 0 {
			return ranges, err
		}
	}
	conf, err := os.ReadFile("/etc/nsswitch.conf")
	if err != nil || !elsewhere(conf) {
		return nil, nil
	}
	args := []string{name}
	if strings.HasSuffix(file, "gid") {
		args = []string{"-g", name}
	}
	out, err := exec.Command("getsubids", args...).Output()
	if err != nil {
		return nil, nil // not installed, or it knows of none
	}
	return parseGetsubids(out), nil
}

// elsewhere reports whether nsswitch.conf(5) names a place for subordinate ids.
func elsewhere(conf []byte) bool {
	for line := range bytes.Lines(conf) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		if source, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("subid:")); ok {
			return string(bytes.TrimSpace(source)) != "files"
		}
	}
	return false
}

// ParseRanges reads the lines of subuid(5) that are a user's, by name or number.
// Those that are malformed name nobody.
func ParseRanges(r io.Reader, name string, uid uint32) ([]Range, error) {
	var ranges []Range
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(ranges) < maxRanges {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || f[0] == "" || f[0] != name && f[0] != strconv.FormatUint(uint64(uid), 10) {
			continue
		}
		ranges = appendRange(ranges, f[1], f[2])
	}
	return ranges, lines.Err()
}

// parseGetsubids reads lines like "0: user 100000 65536".
func parseGetsubids(out []byte) []Range {
	var ranges []Range
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 4 && len(ranges) < maxRanges {
			ranges = appendRange(ranges, f[2], f[3])
		}
	}
	return ranges
}

// appendRange adds a range, unless it is empty or leads beyond all ids.
func appendRange(ranges []Range, first, count string) []Range {
	n, err := strconv.ParseUint(first, 10, 32)
	k, err2 := strconv.ParseUint(count, 10, 32)
	if err != nil || err2 != nil || k == 0 || n+k > 1<<32-1 {
		return ranges
	}
	return append(ranges, Range{uint32(n), uint32(k)})
}

// layOut maps the ids from 0 on to the ranges in their order, and the user's own to
// itself, wherever it lies.
func layOut(own uint32, ranges []Range) []span {
	var spans []span
	add := func(s span) {
		if s.count > 0 {
			spans = append(spans, s)
		}
	}
	next, placed := uint64(0), false
	for _, r := range ranges {
		count := min(uint64(r.Count), 1<<32-1-next)
		if at := uint64(own); at >= next && at < next+count {
			before := uint32(at - next)
			add(span{uint32(next), r.First, before})
			add(span{own, own, 1})
			add(span{own + 1, r.First + before + 1, uint32(count) - before - 1})
			placed = true
		} else {
			add(span{uint32(next), r.First, uint32(count)})
		}
		next += count
	}
	if !placed {
		add(span{own, own, 1})
	}
	return spans
}

// keepsNoOwners are file systems where another machine, or another user's process,
// decides about owners: statfs(2).
var keepsNoOwners = map[uint32]string{
	0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x65735546: "FUSE", 0x5346414f: "AFS",
	0x01021997: "9P", 0x0bd00bd0: "Lustre", 0x47504653: "GPFS", 0x73757245: "Coda", 0x6b414653: "AFS",
}

// holdsOwners reports why subordinate ids can't own files in a folder; of one that
// isn't there the nearest above it counts.
func holdsOwners(dir string) error {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for ; err == unix.ENOENT && dir != filepath.Dir(dir); err = unix.Statfs(dir, &st) {
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return nil // opening it will tell
	}
	if kind, ok := keepsNoOwners[uint32(st.Type)]; ok {
		return problem("keeping owners in "+dir, fmt.Errorf("it is on %s, which takes none but yours", kind),
			"STEAD_STORE=FOLDER names one on a local disk")
	}
	return nil
}
