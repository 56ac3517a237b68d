package scrub

import (
	"fmt"

	"github.com/stead-env/stead/snapshot"
)

// Level is how much may leave a host.
type Level string

// The levels: names and versions of packages and facts alone; what loaders, linkers
// and compilers read; all that the other tables let through.
const (
	Index    Level = "index"
	Minimal  Level = "minimal"
	Standard Level = "standard"
)

// minimal are the files that may leave at that level: what a program is built against
// and started with. Links and folders come along as always: they have no content.
var minimal = all(
	kept("which libraries the loader finds", "/etc/ld.so.conf", "/etc/ld.so.conf.d+", "/etc/ld.so.cache", "/etc/ld.so.preload"),
	kept("which of several programs is meant", "/etc/alternatives+", "/var/lib/dpkg/alternatives+"),
	kept("libraries, start files, compilers and their specifications", "/lib+", "/lib32+", "/lib64+", "/libx32+",
		"/usr/lib+", "/usr/lib32+", "/usr/lib64+", "/usr/libx32+", "/usr/libexec+"),
	kept("headers", "/usr/include+"),
	kept("what build systems ask about libraries", "/usr/share/pkgconfig+", "/usr/share/aclocal+", "/usr/share/cmake+", "/usr/share/gir-1.0+"),
	kept("the administrator's libraries and headers", "/usr/local/lib+", "/usr/local/lib32+", "/usr/local/lib64+", "/usr/local/include+",
		"/usr/local/share/pkgconfig+"),
	kept("libraries and headers of other software", "/opt/**/lib/**", "/opt/**/lib32/**", "/opt/**/lib64/**", "/opt/**/include/**",
		"/opt/**/*.so", "/opt/**/*.so.*", "/opt/**/*.a", "/opt/**/*.h", "/opt/**/*.pc"),
	kept("what tools are solved against", "/var/lib/dpkg+", "/var/lib/apt/extended_states", "/var/lib/rpm+", "/var/lib/portage+", "/var/db/pkg+",
		"/var/lib/pacman+"),
	kept("accounts of the system, without people", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"),
)

// At returns the rules for another level: what it doesn't take stays. A pattern to
// keep goes before it.
func (r *Rules) At(level Level) (*Rules, error) {
	next := *r
	switch level {
	case Standard:
		return r, nil
	case Minimal:
		next.level, next.taken = level, newIndex(minimal)
	case Index:
		next.level, next.taken, next.keep = level, newIndex(nil), nil
	default:
		return nil, fmt.Errorf("unknown level %q: %s, %s or %s", level, Index, Minimal, Standard)
	}
	next.version = fmt.Sprintf("%s:%s:%d", r.version, level, len(next.taken.rules))
	return &next, nil
}

// untaken reports whether a file isn't taken at this level.
func (r *Rules) untaken(path string, t snapshot.Type) bool {
	if r.taken == nil || t != snapshot.Regular || r.taken.find(path, t) != nil {
		return false
	}
	_, kept := r.kept(path)
	return !kept
}
