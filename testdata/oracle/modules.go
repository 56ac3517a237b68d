package main

import (
	"debug/elf"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// modules tells which program loads the libraries of a folder: none of them names the
// library that has its symbols, which is the program.
var modules = []struct {
	path    *regexp.Regexp
	program string // a pattern, on the target; {dir} is the module's folder
	now     bool   // it loads them with RTLD_NOW
}{
	{regexp.MustCompile(`/python3(\.\d+)?/.*\.so$`), "/usr/bin/python3.*[0-9]", true},
	{regexp.MustCompile(`/perl5?/.*\.so$|/perl-base/.*\.so$`), "/usr/bin/perl", false},
	{regexp.MustCompile(`/postgresql/\d+/lib/.*\.so$`), "{dir}/../bin/postgres", true},
	{regexp.MustCompile(`/apache2/modules/.*\.so$`), "/usr/sbin/apache2", true},
	{regexp.MustCompile(`/nginx/modules/.*\.so$`), "/usr/sbin/nginx", true},
	{regexp.MustCompile(`/php/\d+/.*\.so$`), "/usr/bin/php*[0-9]", false},
	{regexp.MustCompile(`/ruby/.*\.so$`), "/usr/bin/ruby*[0-9]", false},
	{regexp.MustCompile(`/lua/5\.3/.*\.so$|/liblua5\.3-`), "/usr/bin/lua5.3", true},
	{regexp.MustCompile(`/gawk/.*\.so$`), "/usr/bin/gawk", false},
	{regexp.MustCompile(`/zsh/.*\.so$`), "/usr/bin/zsh", false},
	{regexp.MustCompile(`/rsyslog/.*\.so$`), "/usr/sbin/rsyslogd", true},
	{regexp.MustCompile(`/sudo/.*\.so(\.|$)`), "/usr/bin/sudo", false},
	{regexp.MustCompile(`/postfix/.*\.so$`), "/usr/lib/postfix/sbin/master", false},
	{regexp.MustCompile(`/gcc/.*/plugin/`), "/usr/lib/gcc/x86_64-linux-gnu/*/cc1", true},
	{regexp.MustCompile(`/jvm/.*\.so$`), "{dir}/server/libjvm.so", true}, // which stands for what has loaded it
	{regexp.MustCompile(`\.node$`), "/usr/bin/node", false},
}

// loadedBy is the program of the target that a library is a module of, or "".
func loadedBy(s subject) (path string, now bool) {
	for _, m := range modules {
		if !m.path.MatchString(s.Path) {
			continue
		}
		if found, err := filepath.Glob(strings.ReplaceAll(m.program, "{dir}", filepath.Dir(s.Path))); err == nil && len(found) > 0 && !links(found[0], s.Soname) {
			return found[0], m.now
		}
	}
	return "", false
}

// links reports whether a program names a library: then that is no module of it.
func links(program, soname string) bool {
	f, err := elf.Open(program)
	if err != nil {
		return true // a script, say
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	return err != nil || slices.Contains(needed, soname)
}
