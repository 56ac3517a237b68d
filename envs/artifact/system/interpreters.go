package system

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// language is how a language's interpreters are known on a system. Patterns of folders
// are as path.Match has them, element by element; VERSION stands for the interpreter's
// ("3.11"), and PREFIX for the folder above its bin.
type language struct {
	name   string
	binary *regexp.Regexp // of its programs' names; the first group is the version
	folder []string       // where programs are, beside binFolders
	// release are folders whose names tell the version where the program's doesn't.
	release []string
	version *regexp.Regexp // in these names; nil for its first two numbers
	dirs    []string       // where it looks for modules
	abi     func(t tree, in *Interpreter, packages []Package)
}

// binFolders are where interpreters lie.
var binFolders = []string{"/usr/bin", "/usr/local/bin", "/bin", "/opt/*/bin", "/opt/rh/*/root/usr/bin"}

var languages = []language{
	{name: "python", binary: regexp.MustCompile(`^(?:platform-)?python([23](?:\.\d{1,2})?)?$`), folder: []string{"/usr/libexec"},
		release: []string{"PREFIX/lib/python[23].*", "PREFIX/lib64/python[23].*"},
		dirs: []string{"PREFIX/lib/pythonVERSION", "PREFIX/lib/pythonVERSION/lib-dynload",
			"PREFIX/lib64/pythonVERSION", "PREFIX/lib64/pythonVERSION/lib-dynload",
			"/usr/local/lib/pythonVERSION/*-packages", "/usr/local/lib64/pythonVERSION/*-packages",
			"PREFIX/lib/pythonVERSION/*-packages", "PREFIX/lib64/pythonVERSION/*-packages", "PREFIX/lib/python3/dist-packages"},
		abi: pythonABI},
	{name: "perl", binary: regexp.MustCompile(`^perl()$`),
		release: []string{"PREFIX/bin/perl5.*.*", "PREFIX/lib/*/perl/5.*.*", "PREFIX/lib/perl5/5.*.*", "PREFIX/share/perl/5.*.*"},
		version: regexp.MustCompile(`\d+\.\d+\.\d+`),
		dirs: []string{"/etc/perl", "/usr/local/lib*/perl5", "/usr/local/lib/*/perl/5.*", "/usr/local/share/perl/5.*",
			"PREFIX/lib*/perl5", "PREFIX/lib/*/perl5/5.*", "PREFIX/share/perl5", "PREFIX/lib/*/perl-base",
			"PREFIX/lib/*/perl/5.*", "PREFIX/share/perl/5.*", "PREFIX/lib*/perl5/5.*", "PREFIX/lib*/perl5/*_perl", "/usr/local/lib/site_perl"},
		abi: func(t tree, in *Interpreter, packages []Package) {
			in.ABI = provided(packages, "perlapi-")
		}},
	{name: "ruby", binary: regexp.MustCompile(`^ruby(\d\.\d)?$`),
		release: []string{"PREFIX/lib/ruby/[0-9].*.*", "PREFIX/lib/*/ruby/[0-9].*.*"},
		dirs: []string{"/usr/local/lib/site_ruby", "PREFIX/lib*/ruby/*_ruby", "PREFIX/lib/ruby/VERSION.*",
			"PREFIX/lib/*/ruby/VERSION.*", "PREFIX/lib/*/ruby/*_ruby/VERSION.*", "PREFIX/lib*/ruby", "PREFIX/share/ruby"},
		abi: func(t tree, in *Interpreter, packages []Package) {
			for _, dir := range in.Dirs {
				if base := path.Base(dir); strings.HasPrefix(base, in.Version+".") {
					in.ABI = append(in.ABI, base)
				}
			}
		}},
	{name: "node", binary: regexp.MustCompile(`^(?:node|nodejs)()$`),
		dirs: []string{"PREFIX/lib/node_modules", "PREFIX/local/lib/node_modules", "PREFIX/lib/nodejs", "PREFIX/lib/*/nodejs", "PREFIX/share/nodejs"},
		abi:  nodeABI},
	{name: "java", binary: regexp.MustCompile(`^java()$`), folder: []string{"/usr/lib/jvm/*/bin", "/usr/lib/jvm/*/jre/bin"},
		abi: javaVersion},
	{name: "php", binary: regexp.MustCompile(`^php(\d\.\d)?$`),
		dirs: []string{"PREFIX/lib/php/20*", "PREFIX/lib*/php/modules", "PREFIX/local/lib/php/extensions/*"},
		abi:  phpABI},
	{name: "lua", binary: regexp.MustCompile(`^lua(5\.\d)?$`),
		release: []string{"PREFIX/lib*/lua/5.*", "PREFIX/lib/*/lua/5.*", "PREFIX/share/lua/5.*"},
		dirs: []string{"/usr/local/share/lua/VERSION", "/usr/local/lib*/lua/VERSION", "PREFIX/share/lua/VERSION",
			"PREFIX/lib/*/lua/VERSION", "PREFIX/lib*/lua/VERSION"}},
}

// interpreters finds those of a system, in the order of their languages and paths.
func interpreters(t tree, packages []Package) (list []Interpreter) {
	t.names = once(t.names)
	for _, lang := range languages {
		seen := map[string]bool{}
		for _, dir := range t.globAll(slices.Concat(binFolders, lang.folder)) {
			for _, name := range t.names(dir) {
				if !lang.binary.MatchString(name) {
					continue
				}
				real, kind := t.follow(dir + "/" + name)
				if kind != file || seen[real] || len(seen) >= maxPrograms || !t.program(real) {
					continue
				}
				seen[real] = true
				list = append(list, lang.interpreter(t, real, name, packages))
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Interpreter) int {
		return cmp.Or(cmp.Compare(a.Language, b.Language), cmp.Compare(a.Path, b.Path))
	})
	return list
}

// once remembers the answers of a function.
func once(names func(dir string) []string) func(dir string) []string {
	known := map[string][]string{}
	return func(dir string) []string {
		list, ok := known[dir]
		if !ok {
			list = names(dir)
			known[dir] = list
		}
		return list
	}
}

var minor = regexp.MustCompile(`\d{1,3}\.\d{1,3}`)

const (
	maxPrograms = 32 // of one language
	maxABIs     = 64
)

// interpreter describes a program that was found by a name.
func (lang language) interpreter(t tree, real, name string, packages []Package) Interpreter {
	in := Interpreter{Language: lang.name, Path: real}
	for _, base := range []string{path.Base(real), name} {
		if m := lang.binary.FindStringSubmatch(base); m != nil && strings.Contains(m[1], ".") {
			in.Version = cmp.Or(in.Version, m[1])
		}
	}
	prefix := strings.TrimSuffix(path.Dir(path.Dir(real)), "/")
	if prefix == "" {
		prefix = "/usr" // /bin where it isn't merged
	}
	fill := strings.NewReplacer("PREFIX", prefix, "VERSION", cmp.Or(in.Version, "\x00"))
	if in.Version == "" {
		if found := t.globAll(filled(fill, lang.release)); len(found) > 0 {
			in.Version = cmp.Or(lang.version, minor).FindString(path.Base(found[0]))
			fill = strings.NewReplacer("PREFIX", prefix, "VERSION", cmp.Or(in.Version, "\x00"))
		}
	}
	for _, dir := range t.globAll(filled(fill, lang.dirs)) {
		if resolved, kind := t.follow(dir); kind == folder && !slices.Contains(in.Dirs, resolved) && len(in.Dirs) < maxDirs {
			in.Dirs = append(in.Dirs, resolved)
		}
	}
	if lang.abi != nil {
		lang.abi(t, &in, packages)
	} else if in.Version != "" {
		in.ABI = []string{in.Version}
	}
	slices.Sort(in.ABI)
	in.ABI = slices.Compact(in.ABI)
	return in
}

func filled(r *strings.Replacer, patterns []string) (list []string) {
	for _, p := range patterns {
		list = append(list, r.Replace(p))
	}
	return list
}

// globAll are the paths that are there, by pattern, with what they lead through.
func (t tree) globAll(patterns []string) (found []string) {
	for _, pattern := range patterns {
		for _, p := range t.glob("/", strings.Split(strings.Trim(pattern, "/"), "/")) {
			if !slices.Contains(found, p) {
				found = append(found, p)
			}
		}
	}
	return found
}

const maxGlob = 256

func (t tree) glob(dir string, elements []string) (found []string) {
	names := []string{elements[0]}
	if strings.ContainsAny(elements[0], "*[") {
		names = names[:0]
		for _, name := range t.names(dir) {
			if ok, _ := path.Match(elements[0], name); ok {
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		p := path.Join(dir, name)
		if _, kind := t.follow(p); kind == none || len(found) >= maxGlob {
			continue
		}
		if len(elements) == 1 {
			found = append(found, p)
		} else {
			found = append(found, t.glob(p, elements[1:])...)
		}
	}
	return found
}

var pythonTag = regexp.MustCompile(`\.(cpython-[A-Za-z0-9_-]{1,80})\.so$`)

// pythonABI reads the tag of its extension modules off those that it comes with: a minimal
// one has none, and its tags stay unknown.
func pythonABI(t tree, in *Interpreter, _ []Package) {
	for _, dir := range in.Dirs {
		if path.Base(dir) != "lib-dynload" {
			continue
		}
		for _, name := range t.names(dir) {
			if m := pythonTag.FindStringSubmatch(name); m != nil && !slices.Contains(in.ABI, m[1]) && len(in.ABI) < maxABIs {
				in.ABI = append(in.ABI, m[1])
			}
		}
	}
	if len(in.ABI) > 0 && strings.HasPrefix(in.Version, "3.") {
		in.ABI = append(in.ABI, "abi3")
	}
}

var (
	nodeLibrary = regexp.MustCompile(`^libnode\.so\.(\d{1,4})$`)
	nodeHeader  = regexp.MustCompile(`(?m)^#define (NODE_[A-Z_]*VERSION) +(\d{1,4})\r?$`)
	javaRelease = regexp.MustCompile(`(?m)^JAVA_VERSION="([0-9A-Za-z._+-]{1,64})"\r?$`)
)

// nodeABI reads the number of its modules' interface off its library or header, and its
// version off the header or its package.
func nodeABI(t tree, in *Interpreter, packages []Package) {
	prefix := path.Dir(path.Dir(in.Path))
	for _, p := range t.globAll([]string{prefix + "/lib*/libnode.so.*", prefix + "/lib/*/libnode.so.*"}) {
		if m := nodeLibrary.FindStringSubmatch(path.Base(p)); m != nil && len(in.ABI) < maxABIs {
			in.ABI = append(in.ABI, m[1])
		}
	}
	header, err := t.read(prefix+"/include/node/node_version.h", maxConfig)
	if err == nil {
		defined := map[string]string{}
		for _, m := range nodeHeader.FindAllStringSubmatch(string(header), maxABIs) {
			defined[m[1]] = m[2]
		}
		if v := defined["NODE_MODULE_VERSION"]; v != "" && len(in.ABI) == 0 {
			in.ABI = []string{v}
		}
		if v := defined["NODE_MAJOR_VERSION"]; v != "" {
			in.Version = v + "." + cmp.Or(defined["NODE_MINOR_VERSION"], "0")
		}
	}
	for _, p := range packages {
		if in.Version == "" && p.Name == "nodejs" {
			in.Version = minor.FindString(p.Version)
		}
	}
}

// javaVersion reads a runtime's own word of its version, and gives the newest class files
// that it takes as its ABI.
func javaVersion(t tree, in *Interpreter, _ []Package) {
	home := path.Dir(path.Dir(in.Path))
	for _, dir := range []string{home, path.Dir(home)} { // Java 8 has its programs in jre/bin
		data, err := t.read(path.Join(dir, "release"), maxConfig)
		if m := javaRelease.FindSubmatch(data); err == nil && m != nil {
			in.Version = string(m[1])
			break
		}
	}
	feature, _, _ := strings.Cut(strings.TrimPrefix(in.Version, "1."), ".")
	if n, err := strconv.Atoi(feature); err == nil && n > 0 && n < 1000 {
		in.ABI = []string{strconv.Itoa(n + 44)}
	}
}

// phpABI takes the number of its modules' interface from what packages provide, or from
// the only folder of modules.
func phpABI(_ tree, in *Interpreter, packages []Package) {
	for _, p := range packages {
		if in.Version != "" && strings.HasPrefix(p.Name, "php"+in.Version) || in.Version == "" {
			for _, api := range provided([]Package{p}, "phpapi-") {
				in.ABI = append(in.ABI, strings.TrimPrefix(api, "phpapi-"))
			}
		}
	}
	if len(in.ABI) == 0 && len(in.Dirs) == 1 {
		if base := path.Base(in.Dirs[0]); strings.HasPrefix(base, "20") {
			in.ABI = []string{base}
		}
	}
}

// provided are the names that packages provide with a prefix.
func provided(packages []Package, prefix string) (names []string) {
	for _, p := range packages {
		for _, name := range p.Provides {
			name, _, _ = strings.Cut(name, " ")
			if strings.HasPrefix(name, prefix) && len(names) < maxABIs {
				names = append(names, name)
			}
		}
	}
	return names
}
