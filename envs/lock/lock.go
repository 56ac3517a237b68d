// Package lock is the lockfile of one release: its types, its one canonical
// spelling, and its identity. It fetches nothing and knows no format of packages.
package lock

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Version is the version of the format that this program writes. Every version
// up to it can be read. 2 brought [index].
const Version = 2

// Lock is the content of one lockfile. It is never changed once it is written.
type Lock struct {
	Version  int       `toml:"version"`
	Take     string    `toml:"take,omitempty"` // how much left the host; "" for all that may
	Release  Release   `toml:"release"`
	Host     Host      `toml:"host"`
	Kernel   *Kernel   `toml:"kernel"`
	Archives []Archive `toml:"archive"`
	Packages []Package `toml:"package"`
	Delta    Delta     `toml:"delta"`
	// Index is what verdicts rest on; nil in a lock that was written before there were any.
	Index  *Attachment `toml:"index"`
	Review *Attachment `toml:"review"`
	Rootfs Rootfs      `toml:"rootfs"`
}

// How much left a host, where it isn't all that may.
const (
	TakeIndex   = "index"   // names, versions and facts: there is no delta and no root
	TakeMinimal = "minimal" // what loaders, linkers and compilers read
)

// Release says which snapshot of which target this is. It is no part of the
// identity: a renumbered release is the same release.
type Release struct {
	Target  string        `toml:"target"`
	Number  int           `toml:"number"`
	Created time.Time     `toml:"created"`
	Parent  digest.Digest `toml:"parent,omitempty"` // identity of the release before it
	Origin  string        `toml:"origin"`           // Observed or Derived
}

// The origins of a release.
const (
	Observed = "observed" // a host was like this
	Derived  = "derived"  // no host is like this yet
)

// Host are the facts of the host. What isn't known is absent, never this
// machine's own.
type Host struct {
	ID           string `toml:"id,omitempty"`
	Version      string `toml:"version,omitempty"`
	Codename     string `toml:"codename,omitempty"`
	Architecture string `toml:"architecture,omitempty"`
	Libc         string `toml:"libc,omitempty"`
	Kernel       string `toml:"kernel,omitempty"`
	CPU          string `toml:"cpu,omitempty"`
	Umask        string `toml:"umask,omitempty"`
	Locale       string `toml:"locale,omitempty"`
	Timezone     string `toml:"timezone,omitempty"`
	NoFile       int    `toml:"nofile,omitempty"`
}

// Kernel is what the host's running kernel was, beyond its release; nil where no kernel
// could be asked. Locks written before it was recorded have none.
type Kernel struct {
	Version string `toml:"version,omitempty" json:"version,omitempty"` // its /proc/version
	// SystemCalls are those that it really has, sorted, by libseccomp's names: kernels of
	// distributions have later calls than their release tells.
	SystemCalls []string `toml:"system-calls,omitempty" json:"systemCalls,omitempty"`
}

// Archive is where packages came from, with the evidence.
type Archive struct {
	Name string `toml:"name"` // unique in the lock: "debian-bullseye"
	// URI is the archive's root as the host itself names it, without credentials, or as
	// it is to be had from a snapshot archive.
	URI   string `toml:"uri"`
	Suite string `toml:"suite"`
	// InRelease is the digest of the signed file, kept in the store.
	InRelease digest.Digest `toml:"inrelease"`
	// SignedBy are the fingerprints of the primary keys whose signatures were good,
	// in upper-case hex.
	SignedBy []string  `toml:"signed-by"`
	Dated    time.Time `toml:"dated"` // the InRelease's own date
}

// The proofs that a package file is what is installed.
const (
	Exact    = "exact"    // the archive's file is what is installed, file by file
	Repacked = "repacked" // built from the host's own files, kept in the store
	Listed   = "listed"   // known by name and version only
)

// Package is one pinned package.
type Package struct {
	Name         string `toml:"name"`
	Version      string `toml:"version"`
	Architecture string `toml:"architecture"`
	Archive      string `toml:"archive,omitempty"` // name of an Archive; "" when repacked
	Path         string `toml:"path,omitempty"`    // below the archive's URI
	Size         int64  `toml:"size"`              // bytes of the package file
	SHA256       string `toml:"sha256"`            // of the package file, lower-case hex
	Proof        string `toml:"proof"`
	Want         string `toml:"want,omitempty"`   // "hold"; absent for "install"
	State        string `toml:"state,omitempty"`  // absent for "installed"
	Rootfs       string `toml:"rootfs,omitempty"` // "out": locked, not put into the root filesystem
}

// HasFile reports whether the package is pinned to a file, and not only named: of one
// that was removed from a host its configuration may be left.
func (p Package) HasFile() bool { return p.SHA256 != "" }

// Digest is the digest of the package file.
func (p Package) Digest() digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, p.SHA256)
}

// Delta is what the host has beyond its packages: one OCI layer.
type Delta struct {
	SHA256 string `toml:"sha256"` // of the uncompressed tar: encoders change
	Size   int64  `toml:"size"`   // bytes, uncompressed
	Files  int    `toml:"files"`
}

// Digest is the digest of the uncompressed tar.
func (d Delta) Digest() digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, d.SHA256)
}

// Attachment is a blob that travels with the lock.
type Attachment struct {
	SHA256 string `toml:"sha256"`
}

// Digest is the digest of the blob; "" of none.
func (a *Attachment) Digest() digest.Digest {
	if a == nil {
		return ""
	}
	return digest.NewDigestFromEncoded(digest.SHA256, a.SHA256)
}

// Rootfs is what every machine must arrive at.
type Rootfs struct {
	Digest string `toml:"digest"` // "tree1:sha256:…"
}
