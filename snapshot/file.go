package snapshot

import "strings"

// Type is the kind of a file system entry.
type Type byte

// The types, named by the letter that a manifest writes.
const (
	Regular Type = 'f'
	Dir     Type = 'd'
	Symlink Type = 'l'
	FIFO    Type = 'p'
	Socket  Type = 's'
	Char    Type = 'c'
	Block   Type = 'b'
)

// File is one entry of a file system, on a host or in a tree.
type File struct {
	// Path is relative to the root, without a leading slash; the root itself is ".".
	// It is a byte string: any byte but NUL may occur.
	Path  string
	Type  Type
	Mode  uint32 // permission bits with setuid, setgid and sticky: 07777
	UID   uint32
	GID   uint32
	Size  int64 // bytes, of regular files
	MTime int64 // whole seconds since 1970, as tar and dpkg keep them

	Target string // of a symbolic link
	Digest string // SHA-256 of the content in lower-case hex; "" where it was not read
	// Link names the group of hard links that a file belongs to, by the first path
	// of the group in byte order; "" for a file with one name.
	Link string
	// Xattrs are the extended attributes that a manifest keeps: security.capability
	// in its v2 form, user.*, and ACLs; nil where there are none.
	Xattrs map[string]string

	// User and Group are the names that a package file gives beside its numbers; ""
	// for root, on a host, and in a finished root.
	User, Group string

	// Change tells whether a host's file is still the one that was read. It is zero in
	// a tree, and where a host can't tell.
	Change Stamp
}

// Stamp is a short hash of what changes when a file is written to: device, inode,
// size, mtime and ctime to the nanosecond.
type Stamp [16]byte

// Same reports whether two entries agree in all that a manifest keeps; the
// content counts as equal where one of the digests isn't known.
func (f File) Same(g File) bool {
	if f.Path != g.Path || f.Type != g.Type || f.Mode != g.Mode || f.UID != g.UID || f.GID != g.GID {
		return false
	}
	if len(f.Xattrs) != len(g.Xattrs) {
		return false
	}
	for k, v := range f.Xattrs {
		if w, ok := g.Xattrs[k]; !ok || v != w {
			return false
		}
	}
	switch f.Type {
	case Regular:
		return f.Size == g.Size && f.MTime == g.MTime && f.Link == g.Link &&
			(f.Digest == g.Digest || f.Digest == "" || g.Digest == "")
	case Symlink:
		return f.Target == g.Target && f.MTime == g.MTime
	default:
		return true
	}
}

// ValidPath reports whether a path is relative, clean and inside its root. "." is
// the root. Any byte but NUL may occur in a name: this isn't fs.ValidPath, which
// asks for UTF-8.
func ValidPath(path string) bool {
	if path == "." {
		return true
	}
	if path == "" || len(path) > 4096 || strings.IndexByte(path, 0) >= 0 {
		return false
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." || len(name) > 255 {
			return false
		}
	}
	return true
}
