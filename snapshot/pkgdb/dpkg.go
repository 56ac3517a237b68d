package pkgdb

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// Dpkg reads the database of Debian's package manager, /var/lib/dpkg, as dpkg
// would see it at its next run: with the updates that are not merged yet. It
// reads status.d as well, which images without a dpkg have.
type Dpkg struct {
	Brief bool // without what packages own
}

var _ snapshot.Reader = Dpkg{}

const (
	dpkgDir      = "var/lib/dpkg/"
	infoDir      = dpkgDir + "info/"
	statusFile   = dpkgDir + "status"
	statusDir    = dpkgDir + "status.d/"
	updatesDir   = dpkgDir + "updates/"
	triggersDir  = dpkgDir + "triggers/"
	diversions   = dpkgDir + "diversions"
	archFile     = dpkgDir + "arch"
	formatFile   = infoDir + "format"
	extendedFile = "var/lib/apt/extended_states"
)

// System implements snapshot.Reader.
func (Dpkg) System() string { return "dpkg" }

// Roots implements snapshot.Reader.
func (Dpkg) Roots() []string { return []string{"var/lib/dpkg", "var/lib/apt"} }

// Wants implements snapshot.Reader. All of info is wanted for its names' sake.
func (r Dpkg) Wants(p string) bool {
	switch p {
	case statusFile, diversions, archFile, extendedFile:
		return true
	}
	dir, name := path.Split(p)
	switch dir {
	case infoDir:
		return !r.Brief
	case statusDir:
		return true
	case triggersDir:
		return name != "Lock" // only root can read it, and it is empty
	case updatesDir:
		return digits(name)
	}
	return false
}

// Read implements snapshot.Reader.
func (Dpkg) Read(content map[string][]byte) (*snapshot.Database, error) {
	d := &dpkg{content: content, records: map[string][]string{}}
	if err := d.stanzas(); err != nil {
		return nil, err
	}
	if len(d.packages) == 0 {
		return nil, nil
	}
	if err := d.format(); err != nil {
		return nil, err
	}
	d.index()
	d.native = d.architecture()
	for _, read := range []func() error{d.unincorporated, d.automatic, d.files, d.diverted} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return d.database(), nil
}

// maxForeign bounds the architectures beside the native one.
const maxForeign = 16

type key struct{ name, arch string }

// dpkg is a database while it is read.
type dpkg struct {
	content    map[string][]byte
	packages   map[key]*installed
	native     string
	multiarch  bool                // info/NAME:ARCH.* for Multi-Arch: same
	records    map[string][]string // what follows the last dot, by what precedes it
	diversions []snapshot.Diversion
}

type installed struct {
	snapshot.Package
	md5sums string // file of an image without a dpkg, "" otherwise
}

// stanzas reads status, then updates/NNNN over it in the order of their names
// (dpkg's modstatdb writes each change there first), then status.d.
func (d *dpkg) stanzas() error {
	d.packages = map[key]*installed{}
	var updates, separate []string
	for f := range d.content {
		switch dir, name := path.Split(f); {
		case dir == updatesDir && digits(name):
			updates = append(updates, f)
		case dir == statusDir && !strings.HasSuffix(name, ".md5sums"):
			separate = append(separate, f)
		}
	}
	slices.Sort(updates)
	slices.Sort(separate)
	for _, f := range append([]string{statusFile}, updates...) {
		if err := d.status(f, ""); err != nil {
			return err
		}
	}
	for _, f := range separate {
		if err := d.status(f, f+".md5sums"); err != nil {
			return err
		}
	}
	return nil
}

func (d *dpkg) status(file, md5sums string) error {
	return stanzas(file, d.content[file], func(s stanza) error {
		p, err := s.pkg(md5sums != "")
		if err != nil {
			return err
		}
		k := key{p.Name, p.Architecture}
		if p.State == "not-installed" {
			delete(d.packages, k)
			return nil
		}
		if len(d.packages) >= maxPackages {
			return s.wrong(0, "too many packages")
		}
		d.packages[k] = &installed{Package: *p, md5sums: md5sums}
		return nil
	})
}

// format reads info/format: 0, or no such file, is the layout before Multi-Arch.
func (d *dpkg) format() error {
	b, ok := d.content[formatFile]
	if !ok {
		return nil
	}
	switch strings.TrimSpace(string(b)) {
	case "0":
	case "1":
		d.multiarch = true
	default:
		return &ParseError{formatFile, 1, "unknown format of the info folder"}
	}
	return nil
}

// index finds the records of each package. A package's name may hold dots, the
// name of a control member never does.
func (d *dpkg) index() {
	for f := range d.content {
		name, ok := strings.CutPrefix(f, infoDir)
		if dot := strings.LastIndexByte(name, '.'); ok && dot > 0 {
			d.records[name[:dot]] = append(d.records[name[:dot]], name[dot+1:])
		}
	}
}

// base is the name of a package's files in info, without the extension.
func (d *dpkg) base(p *installed) string {
	if d.multiarch && p.MultiArch {
		return p.Name + ":" + p.Architecture
	}
	return p.Name
}

// files reads what each package owns. A missing list means an empty one, as it
// does to dpkg.
func (d *dpkg) files() error {
	total := 0
	for _, k := range d.keys() {
		p := d.packages[k]
		base := infoDir + d.base(p)
		for _, ext := range d.records[d.base(p)] {
			if ext == "list" {
				continue
			}
			if p.Records == nil {
				p.Records = map[string]string{}
			}
			p.Records[ext] = base + "." + ext
		}
		var err error
		switch {
		case p.md5sums != "":
			p.MD5 = md5sums(d.content[p.md5sums])
			p.Files = slices.Sorted(maps.Keys(p.MD5))
		case p.State == "config-files":
			for _, c := range p.Conffiles {
				p.Files = append(p.Files, c.Path)
			}
		default:
			p.MD5 = md5sums(d.content[base+".md5sums"])
			p.Files, err = list(base+".list", d.content[base+".list"])
		}
		if err != nil {
			return err
		}
		if total += len(p.Files); total > maxFiles {
			return &ParseError{base + ".list", 1, "too many files in the database"}
		}
	}
	return nil
}

// list reads info/NAME.list: absolute paths, the root as "/.".
func list(file string, content []byte) ([]string, error) {
	paths := make([]string, 0, min(len(content)/40, maxFiles)) // about 60 bytes to a line
	err := lines(file, content, func(n int, line string) error {
		p, ok := cleanPath(line)
		if !ok || line == "" || line[0] != '/' {
			return &ParseError{file, n, "not an absolute path"}
		}
		if p == "" {
			return nil
		}
		if paths = append(paths, p); len(paths) > maxFiles {
			return &ParseError{file, n, "too many files"}
		}
		return nil
	})
	return paths, err
}

// md5sums reads a list of digests that the package's maker wrote, or dpkg where
// there was none: whatever line makes no sense says nothing.
func md5sums(content []byte) map[string]string {
	if len(content) == 0 {
		return nil
	}
	sums := make(map[string]string, len(content)/80)
	_ = lines("", content, func(_ int, line string) error {
		if len(line) < 35 || line[32] != ' ' || line[33] != ' ' && line[33] != '*' || !isMD5(line[:32]) {
			return nil
		}
		if p, ok := cleanPath(line[34:]); ok && p != "" {
			sums[p] = line[:32]
		}
		return nil
	})
	return sums
}

// diverted reads triplets of lines: path, where it went, and the package or ":".
func (d *dpkg) diverted() error {
	var triplet [3]string
	last := 0
	err := lines(diversions, d.content[diversions], func(n int, line string) error {
		i := (n - 1) % 3
		triplet[i], last = line, n
		if i < 2 {
			p, ok := cleanPath(line)
			if !ok || p == "" || line[0] != '/' {
				return &ParseError{diversions, n, "not an absolute path"}
			}
			triplet[i] = p
			return nil
		}
		if line == ":" {
			line = ""
		}
		d.diversions = append(d.diversions, snapshot.Diversion{From: triplet[0], To: triplet[1], By: line})
		return nil
	})
	if err == nil && last%3 != 0 {
		err = &ParseError{diversions, last, "a diversion has three lines"}
	}
	return err
}

// automatic marks what apt installed for the sake of others. Apt writes the native
// architecture for packages of architecture "all".
func (d *dpkg) automatic() error {
	return stanzas(extendedFile, d.content[extendedFile], func(s stanza) error {
		if s.get("Auto-Installed") != "1" {
			return nil
		}
		name, arch := s.get("Package"), s.get("Architecture")
		if p := d.packages[key{name, arch}]; p != nil {
			p.Automatic = true
		} else if p := d.packages[key{name, "all"}]; p != nil && (arch == d.native || arch == "") {
			p.Automatic = true
		}
		return nil
	})
}

func (d *dpkg) keys() []key {
	return slices.SortedFunc(maps.Keys(d.packages), func(a, b key) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.arch, b.arch)
	})
}

func (d *dpkg) database() *snapshot.Database {
	db := &snapshot.Database{System: "dpkg", Diversions: d.diversions, Architecture: d.native, Libc: d.libc()}
	for _, arch := range strings.Fields(string(d.content[archFile])) {
		if arch != d.native && !slices.Contains(db.Foreign, arch) && len(db.Foreign) < maxForeign {
			db.Foreign = append(db.Foreign, arch)
		}
	}
	for _, k := range d.keys() {
		db.Packages = append(db.Packages, d.packages[k].Package)
	}
	return db
}

// architecture is the first that dpkg lists: its own, before the foreign ones. It
// lists none where no foreign one was ever added.
func (d *dpkg) architecture() string {
	first, _, _ := strings.Cut(string(d.content[archFile]), "\n")
	if first = strings.TrimSpace(first); first != "" {
		return first
	}
	for _, name := range []string{"dpkg", "libc6", "base-files"} {
		for _, k := range d.keys() {
			if k.name == name && k.arch != "all" {
				return k.arch
			}
		}
	}
	for _, k := range d.keys() {
		if k.arch != "all" {
			return k.arch
		}
	}
	return ""
}

// libraries are the packages that a C library comes in (libc6.1 on alpha and ia64,
// libc0.x on ports to other kernels).
var libraries = []struct{ name, libc string }{
	{"libc6", "glibc"}, {"libc6.1", "glibc"}, {"libc0.3", "glibc"}, {"libc0.1", "glibc"}, {"musl", "musl"},
}

func (d *dpkg) libc() string {
	for _, l := range libraries {
		if p := d.packages[key{l.name, d.native}]; p != nil && p.State != "config-files" {
			return l.libc + " " + upstream(p.Version)
		}
	}
	return ""
}

// upstream is the part of a version that the makers of the software gave it.
func upstream(version string) string {
	if _, v, ok := strings.Cut(version, ":"); ok {
		version = v
	}
	if i := strings.LastIndexByte(version, '-'); i > 0 {
		version = version[:i]
	}
	if i := strings.IndexFunc(version, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i > 0 {
		version = version[:i]
	}
	return version
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func isMD5(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}
