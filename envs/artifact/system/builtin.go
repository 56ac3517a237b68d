package system

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"iter"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/object"
)

// builtin is what is compiled into a loader and shows in no header.
type builtin struct {
	Family     Family
	Version    string
	SystemDirs []string
	HWCaps     []string // the folders below glibc-hwcaps/ that it knows, the best first
	PathFile   string   // that musl reads its folders from: "/etc/ld-musl-x86_64.path"
}

// loaders are the sonames of glibc's loaders on the machines it runs on.
var loaders = regexp.MustCompile(`^(ld-linux[A-Za-z0-9_.-]*\.so\.[0-9]+|ld(64)?\.so\.[0-9]+)$`)

// wantsBuiltin reports whether an object may be a loader: then what is built into it is
// read.
func wantsBuiltin(o *object.Object) bool {
	if o.Type != elf.ET_DYN || !o.Dynamic {
		return false
	}
	return loaders.MatchString(o.Soname) || isMusl(o)
}

// isMusl tells musl, which is its own loader, by what it has: everything that starts a
// program, and no library or version that it needs.
func isMusl(o *object.Object) bool {
	if len(o.Needed) > 0 || len(o.Definitions) > 0 || o.Interp != "" {
		return false
	}
	return exports(o, "__libc_start_main") && exports(o, "dlopen")
}

func exports(o *object.Object, name string) bool {
	_, ok := slices.BinarySearchFunc(o.Exports, name, func(e object.Export, name string) int {
		return strings.Compare(e.Name, name)
	})
	return ok
}

const (
	maxBuiltin = 16 << 20 // bytes of a loader that are looked through
	maxDirs    = 64
)

var (
	glibcVersion = regexp.MustCompile(`^ld\.so .* release version ([0-9]+(?:\.[0-9]+){1,3})`)
	muslVersion  = regexp.MustCompile(`^([0-9]\.[0-9]+\.[0-9]+)(?:[-_]git.*)?$`)
	muslPathFile = regexp.MustCompile(`^%\.\*s(/etc/ld-musl-[A-Za-z0-9_-]+\.path)$`)
	muslDirs     = regexp.MustCompile(`^(?:/[A-Za-z0-9_.-]+)*/lib[A-Za-z0-9_./-]*(?::(?:/[A-Za-z0-9_.-]+)*/lib[A-Za-z0-9_./-]*)+$`) // and not the PATH for programs
	systemDir    = regexp.MustCompile(`^/(?:[A-Za-z0-9_.+-]+/)*lib[A-Za-z0-9_]*/(?:[A-Za-z0-9_.+-]+/)?$`)
)

// readBuiltin reads what is built into a loader. It runs nothing. The zero value says
// that it is none after all.
func readBuiltin(o *object.Object, r io.ReaderAt, size int64) (b builtin, err error) {
	data := make([]byte, min(size, maxBuiltin))
	if n, err := r.ReadAt(data, 0); err != nil && n < len(data) {
		return b, err
	}
	if isMusl(o) {
		return muslBuiltin(data), nil
	}
	b.Family = GLibC
	for s := range texts(data) {
		switch {
		case s[0] == '/' && s[len(s)-1] == '/' && systemDir.MatchString(s):
			// glibc 2.36 has the list twice.
			if dir := path.Clean(s); len(b.SystemDirs) < maxDirs && !slices.Contains(b.SystemDirs, dir) {
				b.SystemDirs = append(b.SystemDirs, dir)
			}
		case b.Version == "" && strings.HasPrefix(s, "ld.so ("):
			b.Version = first(glibcVersion, s)
		case strings.HasPrefix(s, "x86-64-v") || strings.HasPrefix(s, "power") || strings.HasPrefix(s, "z1"):
			if i := slices.Index(hwcapFolders, s); i >= 0 {
				b.HWCaps = strings.Split(s, ":")
			}
		}
	}
	return b, nil
}

func muslBuiltin(data []byte) (b builtin) {
	for s := range texts(data) {
		switch {
		case s[0] == '%' && b.PathFile == "":
			b.PathFile = first(muslPathFile, s)
		case s[0] == '/' && b.SystemDirs == nil && muslDirs.MatchString(s):
			b.SystemDirs = splitDirs(s, ":")
		case digit(s[0]) && b.Version == "":
			b.Version = first(muslVersion, s)
		}
	}
	if b.PathFile == "" && b.SystemDirs == nil {
		return builtin{} // something else that stands alone
	}
	b.Family = Musl
	return b
}

// texts are the strings of a program: what lies before a NUL and is plain text.
func texts(data []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(data) > 0 {
			end := bytes.IndexByte(data, 0)
			if end < 0 {
				return
			}
			start := end
			for start > 0 && end-start < maxPath && (' ' <= data[start-1] && data[start-1] < 0x7f || data[start-1] == '\n') {
				start--
			}
			if end-start > 4 && !yield(string(data[start:end])) {
				return
			}
			data = data[end+1:]
		}
	}
}

// hwcapFolders are what loaders look for below glibc-hwcaps/, the best first, as the
// string stands in them.
var hwcapFolders = []string{
	"x86-64-v4:x86-64-v3:x86-64-v2",
	"power10:power9",
	"z14:z13", "z15:z14:z13", "z16:z15:z14:z13", "z17:z16:z15:z14:z13",
}

// active are the folders of a processor: its own level's and those below it. Where the
// processor isn't known there are none.
func active(folders []string, cpu string) []string {
	if i := slices.Index(folders, cpu); i >= 0 {
		return slices.Clip(folders[i:])
	}
	return nil
}

func first(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// splitDirs are the folders of a list, without a slash at their end.
func splitDirs(list, separators string) (dirs []string) {
	for _, dir := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if len(dirs) < maxDirs && len(dir) < maxPath {
			dirs = append(dirs, "/"+strings.Trim(dir, "/"))
		}
	}
	return dirs
}

// platforms are what kernels tell programs of their machine, for $PLATFORM. (Up to glibc
// 2.36 its loader makes it "haswell" on some processors of one vendor.)
var platforms = map[elf.Machine]string{
	elf.EM_X86_64: "x86_64", elf.EM_386: "i686", elf.EM_AARCH64: "aarch64", elf.EM_RISCV: "riscv64",
}

// oldLoader is how glibc up to 2.34 names the file of its loader.
var oldLoader = regexp.MustCompile(`^ld-([0-9]+\.[0-9]+(?:\.[0-9]+)?)\.so$`)

// newLoader puts together what is known of the loader at a path.
func newLoader(p string, o *object.Object, b builtin) *Loader {
	l := &Loader{Path: p, Family: b.Family, Version: b.Version, Class: o.Class, Machine: o.Machine,
		Flags: o.Flags, SystemDirs: b.SystemDirs, HWCaps: b.HWCaps, Platform: platforms[o.Machine]}
	if m := oldLoader.FindStringSubmatch(path.Base(p)); l.Version == "" && l.Family == GLibC && m != nil {
		l.Version = m[1]
	}
	if len(b.SystemDirs) > 0 && l.Family == GLibC {
		dir := b.SystemDirs[0]
		if strings.HasPrefix(dir, "/usr/") {
			dir = dir[len("/usr"):]
		}
		l.Lib = dir[1:]
	}
	return l
}

// preloaded are the files that /etc/ld.so.preload names: what follows a # in a line is
// a remark.
func preloaded(content string) (files []string) {
	for line := range strings.Lines(content) {
		line, _, _ = strings.Cut(line, "#")
		for _, f := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n:", r) }) {
			if len(files) < maxDirs && len(f) < maxPath {
				files = append(files, f)
			}
		}
	}
	return files
}

// services are those that an nsswitch.conf names, sorted.
func services(content string) (names []string) {
	for line := range strings.Lines(content) {
		line, _, _ = strings.Cut(line, "#")
		_, list, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		for _, word := range strings.Fields(actions.ReplaceAllString(list, " ")) {
			if service.MatchString(word) && len(names) < 1024 {
				names = append(names, word)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var (
	actions = regexp.MustCompile(`\[[^\]]*\]`) // "[NOTFOUND=return]"
	service = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
)

// configure adds what the machine's configuration tells a loader.
func (l *Loader) configure(b builtin, t tree) error {
	if l.Family == GLibC {
		data, err := t.read("/etc/ld.so.preload", maxConfig)
		l.Preload = preloaded(string(data))
		return missing(err)
	}
	if b.PathFile == "" {
		return nil
	}
	// musl takes the folder above the one that it is in as the root of its configuration.
	name := "/lib/" + strings.TrimSuffix(path.Base(b.PathFile), ".path") + ".so.1"
	if real, _ := t.follow(name); real != l.Path {
		name = l.Path
	}
	data, err := t.read(path.Join(path.Dir(path.Dir(name)), b.PathFile), maxConfig)
	if err == nil {
		l.SystemDirs = splitDirs(string(data), ":\n")
	}
	return missing(err)
}

var errTooBig = errors.New("it has too many bytes to be that")

// missing leaves out the error of a file that isn't there, or isn't what its name says.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errTooBig) {
		return nil
	}
	return err
}
