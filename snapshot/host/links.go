package host

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"github.com/stead-env/stead/snapshot"
)

// maxGroups bounds the open groups of hard links whose first path is remembered.
const maxGroups = 200_000

type inode struct{ dev, ino uint64 }

// linker names the groups of hard links of one walk.
type linker struct {
	open map[inode]*linked
	full bool
}

type linked struct {
	first string
	left  uint64 // names not yet seen
}

func newLinker() *linker { return &linker{open: map[inode]*linked{}} }

// group names the group of a file with several names by its first path in this walk.
// Where too many groups are open, as in a backup of millions of links, by the inode.
func (l *linker) group(path string, key inode, names uint64) string {
	if g := l.open[key]; g != nil {
		if g.left--; g.left == 0 {
			delete(l.open, key)
		}
		return g.first
	}
	if l.full = l.full || len(l.open) >= maxGroups; l.full {
		return "inode:" + strconv.FormatUint(key.dev, 16) + ":" + strconv.FormatUint(key.ino, 16)
	}
	l.open[key] = &linked{path, names - 1}
	return path
}

// stamp hashes what changes when a file is written to. Times are in seconds and
// nanoseconds.
func stamp(i inode, size int64, mtime, ctime [2]int64) snapshot.Stamp {
	b := make([]byte, 0, 56)
	for _, n := range [...]uint64{i.dev, i.ino, uint64(size), uint64(mtime[0]), uint64(mtime[1]),
		uint64(ctime[0]), uint64(ctime[1])} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	sum := sha256.Sum256(b)
	return snapshot.Stamp(sum[:len(snapshot.Stamp{})])
}
