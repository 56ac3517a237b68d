package artifact

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/system"
)

// moduleRule says who loads the libraries of a folder, by their paths alone.
type moduleRule struct {
	in string // part of the path
	// needs are libraries, any of which such a module is linked with; nil for all modules.
	needs []string
	// into are programs that load them: the first that the target has brings its symbols.
	// {1} is what version found, {dir} the library's folder.
	into    []string
	version *regexp.Regexp
	// whole says that they take nothing from other modules.
	whole bool
	// now says that all of their symbols are bound at once.
	now bool
	// abi names who takes modules of their own version only: "PostgreSQL".
	abi string
}

var number = `([0-9]+(?:\.[0-9]+)*)`

// javaLibraries are those that a Java machine has loaded before any other of its own
// libraries, and javaMachines stand for the program that has.
var (
	javaLibraries = []string{"libjvm.so", "libjava.so"}
	javaMachines  = []string{"{dir}/server/libjvm.so", "{dir}/../server/libjvm.so", "{dir}/client/libjvm.so",
		"{dir}/amd64/server/libjvm.so"}
)

// moduleRules are tried in their order. Extension modules of Python and Perl have rules of
// their own, in interpreter.go.
var moduleRules = []moduleRule{
	{in: "/apache2/modules/", now: true, into: []string{"/usr/sbin/apache2"}},
	{in: "/httpd/modules/", now: true, into: []string{"/usr/sbin/httpd"}},
	{in: "/nginx/modules/", now: true, into: []string{"/usr/sbin/nginx"}},
	{in: "/postgresql/", version: regexp.MustCompile(`/postgresql/` + number + `/lib/`), abi: "PostgreSQL", now: true,
		into: []string{"/usr/lib/postgresql/{1}/bin/postgres", "{dir}/../bin/postgres"}},
	{in: "/pgsql", now: true, into: []string{"{dir}/../bin/postgres", "/usr/bin/postgres"}},
	{in: "/zsh/", into: []string{"/bin/zsh", "/usr/bin/zsh"}},
	{in: "/lib/bash/", into: []string{"/bin/bash"}},
	{in: "/lib64/bash/", into: []string{"/bin/bash"}},
	{in: "/xorg/modules/", into: []string{"/usr/lib/xorg/Xorg", "/usr/libexec/Xorg"}},
	{in: "/jvm/", needs: javaLibraries, into: javaMachines, abi: "the Java machine of its own folder"},
	{in: "/", needs: javaLibraries, into: javaMachines},
	{in: "/xtables/", into: []string{"/usr/sbin/xtables-nft-multi", "/usr/sbin/xtables-legacy-multi", "/sbin/xtables-multi"}},
	{in: "/rsyslog/", into: []string{"/usr/sbin/rsyslogd"}},
	{in: "/gawk/", into: []string{"/usr/bin/gawk"}},
	{in: "/qemu/", into: []string{"/usr/bin/qemu-system-x86_64"}},
	{in: "/mysql/plugin/", into: []string{"/usr/sbin/mariadbd", "/usr/sbin/mysqld"}},
	{in: "/mariadb/plugin/", into: []string{"/usr/sbin/mariadbd"}},
	{in: "/mariadb19/plugin/", into: []string{"/usr/sbin/mariadbd"}},
	{in: "/lib/sudo/", into: []string{"/usr/bin/sudo"}},
	{in: "/libexec/sudo/", into: []string{"/usr/bin/sudo"}},
	{in: "/openvpn/", into: []string{"/usr/sbin/openvpn"}},
	{in: "/lib/collectd/", into: []string{"/usr/sbin/collectd"}},
	{in: "/dovecot/modules/", into: []string{"/usr/sbin/dovecot"}},
	{in: "/lib/postfix/", into: []string{"/usr/lib/postfix/sbin/master"}},
	{in: "/lib/asterisk/modules/", into: []string{"/usr/sbin/asterisk"}},
	{in: "/lib/freeradius/", into: []string{"/usr/sbin/freeradius"}},
	{in: "/lib/uwsgi/plugins/", into: []string{"/usr/bin/uwsgi-core"}},
	{in: "/lib/frr/", into: []string{"/usr/lib/frr/bgpd"}},
	{in: "/redis/modules/", into: []string{"/usr/bin/redis-server"}},
	{in: "/gcc/", version: regexp.MustCompile(`/gcc/[^/]+/` + number + `/plugin/`), into: []string{"{dir}/../cc1", "{dir}/../cc1plus"}},
	{in: "/lib/R/library/", into: []string{"/usr/lib/R/bin/exec/R"}},
	{in: "/php/", version: regexp.MustCompile(`/php/` + number + `/`), into: []string{"php"}, abi: "PHP of ABI"},
	{in: "/ruby/", version: regexp.MustCompile(`/ruby/(?:vendor_ruby/|site_ruby/|gems/)?` + number + `/`), into: []string{"ruby"}, abi: "Ruby"},
	{in: "/lua/", now: true, version: regexp.MustCompile(`/lua/` + number + `/`), into: []string{"lua"}},
	{in: "/liblua", now: true, version: regexp.MustCompile(`/liblua` + number + `-`), into: []string{"lua"}},
	{in: "/gstreamer-1.0/", whole: true, into: []string{"{dir}/gst-plugin-scanner",
		"{dir}/../gstreamer1.0/gstreamer-1.0/gst-plugin-scanner", "/usr/libexec/gstreamer-1.0/gst-plugin-scanner"}},
	{in: ".node", version: regexp.MustCompile(`\.node$`), into: []string{"node"}},
}

// findInto finds out who loads a library, and its kind. It is false where the target has
// nobody who does: the reasons then say so.
func (c *check) findInto() bool {
	name := c.file.Path
	switch {
	case pythonModule.MatchString(name):
		c.answer.Kind = Module
		return c.pythonModule()
	case perlModule.MatchString(name):
		c.answer.Kind = Module
		return c.perlModule()
	}
	for i := range moduleRules {
		rule := &moduleRules[i]
		if !strings.Contains(name, rule.in) || !rule.linked(c.file.Object.Needed) {
			continue
		}
		version := ""
		if rule.version != nil {
			found := rule.version.FindStringSubmatch(name)
			if found == nil {
				continue
			}
			if len(found) > 1 {
				version = found[1]
			}
		}
		return c.moduleOf(rule, version)
	}
	return true
}

// linked tells whether an object is linked with what a rule says.
func (r *moduleRule) linked(needed []string) bool {
	return r.needs == nil || slices.ContainsFunc(r.needs, func(lib string) bool { return slices.Contains(needed, lib) })
}

// moduleOf finds the program that a rule names. It is false where no other could be it.
func (c *check) moduleOf(rule *moduleRule, version string) bool {
	where := strings.NewReplacer("{1}", version, "{dir}", path.Dir(c.file.Path))
	for _, into := range rule.into {
		if !strings.Contains(into, "/") {
			c.languageModule(into, version)
			continue
		}
		into = path.Clean(where.Replace(into))
		if into == c.file.Path {
			return true // the program itself, or a library that stands for it
		}
		f, there := c.sys.Find(into)
		if !there || f.Dir {
			continue
		}
		o, err := f.Object()
		if err != nil || o.Machine != c.file.Object.Machine || o.Class != c.file.Object.Class {
			continue
		}
		if slices.Contains(o.Needed, c.file.Object.Soname) {
			return true // a library that the program is linked with, in the same folder
		}
		c.into = append(c.into, into)
	}
	if len(c.into) == 0 && rule.in == "/" {
		return true
	}
	c.answer.Kind, c.whole, c.now = Module, rule.whole, rule.now
	if rule.in == ".node" {
		c.nodeABI()
	}
	if len(c.into) > 0 || rule.abi == "" {
		return true
	}
	if c.unknownInterpreters() && !strings.Contains(rule.into[0], "/") {
		return true
	}
	r := c.fails("module-abi", "%s is for %s, and %s has none of that", c.name, strings.TrimSpace(rule.abi+" "+version), c.Name)
	r.Version, r.When = version, atLoad
	r.buildIn(c.Target)
	return false
}

// nodeABI judges whose interface an addon of Node.js uses: its own, which stays, or that of
// its engine, which each release changes.
func (c *check) nodeABI() {
	o := c.file.Object
	if exports(o, "napi_register_module_v1") || imports(o, "napi_module_register") {
		return
	}
	for i := range o.Imports {
		if name := o.Imports[i].Name; strings.HasPrefix(name, "_ZN2v8") || strings.HasPrefix(name, "_ZNK2v8") || name == "node_module_register" {
			c.unproven("module-abi", "%s uses V8's own interface (%s): which releases of Node.js take it isn't in its headers",
				c.name, name).way("build it in %s", c.Name)
			return
		}
	}
}

// languageModule finds the interpreters of a language that may load a module, those of its
// own version first.
func (c *check) languageModule(language, version string) {
	for _, i := range c.interpreters(language) {
		if version == "" || i.Version == version || slices.Contains(i.ABI, version) ||
			strings.HasPrefix(version, i.Version+".") || strings.HasPrefix(i.Version, version+".") {
			c.into = append(c.into, i.Path)
		}
	}
}

// interpreters are the target's of a language, the artifact's own not counted.
func (t *Target) interpreters(language string) []system.Interpreter {
	var all []system.Interpreter
	for _, i := range t.Facts.Interpreters {
		if i.Language == language {
			all = append(all, i)
		}
	}
	return all
}
