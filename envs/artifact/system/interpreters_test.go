package system

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The interpreters of systems that have little else, by the files that tell.
func TestInterpreters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files    string // with = for what they hold, and -> for links
		packages []Package
		want     []Interpreter
	}{
		"nothing": {files: "usr/bin/python3=#!/bin/sh usr/bin/pythonic usr/bin/perl/5"},
		"two pythons": {
			files: "usr/bin/python3.6 usr/bin/python3->python3.6 usr/local/bin/python3.12 usr/bin/python3.6-config usr/local/bin/python3->python3.12 " +
				"usr/lib64/python3.6/lib-dynload/a.cpython-36m-x86_64-linux-gnu.so= usr/lib64/python3.6/site-packages/x= usr/local/lib/python3.12/x=",
			want: []Interpreter{
				{Language: "python", Path: "/usr/bin/python3.6", Version: "3.6", ABI: []string{"abi3", "cpython-36m-x86_64-linux-gnu"},
					Dirs: []string{"/usr/lib64/python3.6", "/usr/lib64/python3.6/lib-dynload", "/usr/lib64/python3.6/site-packages"}},
				{Language: "python", Path: "/usr/local/bin/python3.12", Version: "3.12", Dirs: []string{"/usr/local/lib/python3.12"}}}},
		"python for the system alone": {
			files: "usr/libexec/platform-python->./platform-python3.6 usr/libexec/platform-python3.6 usr/lib64/python3.6/x=",
			want:  []Interpreter{{Language: "python", Path: "/usr/libexec/platform-python3.6", Version: "3.6", Dirs: []string{"/usr/lib64/python3.6"}}}},
		"perl": {
			files:    "usr/bin/perl usr/bin/perl5.36.0 usr/bin/perl5.36-x86_64-linux-gnu usr/lib/x86_64-linux-gnu/perl/5.36.0/x= usr/lib/x86_64-linux-gnu/perl/5.36->5.36.0 usr/share/perl5/x=",
			packages: []Package{{Name: "perl-base", Provides: []string{"libfile-path-perl (= 2.18)", "perlapi-5.36.0"}}},
			want: []Interpreter{{Language: "perl", Path: "/usr/bin/perl", Version: "5.36.0", ABI: []string{"perlapi-5.36.0"},
				Dirs: []string{"/usr/share/perl5", "/usr/lib/x86_64-linux-gnu/perl/5.36.0"}}}},
		"ruby": {
			files: "usr/bin/ruby->ruby3.1 usr/bin/ruby3.1 usr/lib/ruby/3.1.0/x= usr/lib/x86_64-linux-gnu/ruby/vendor_ruby/3.1.0/x= usr/lib/ruby/2.7.0/x=",
			want: []Interpreter{{Language: "ruby", Path: "/usr/bin/ruby3.1", Version: "3.1", ABI: []string{"3.1.0"},
				Dirs: []string{"/usr/lib/ruby/3.1.0", "/usr/lib/x86_64-linux-gnu/ruby/vendor_ruby/3.1.0", "/usr/lib/ruby"}}}},
		"node of a package": {
			files:    "usr/bin/node usr/bin/nodejs->node usr/lib/x86_64-linux-gnu/libnode.so.108=",
			packages: []Package{{Name: "nodejs", Version: "18.20.4+dfsg-1~deb12u1"}},
			want:     []Interpreter{{Language: "node", Path: "/usr/bin/node", Version: "18.20", ABI: []string{"108"}}}},
		"node of its own": {
			files: "usr/local/bin/node usr/local/include/node/node_version.h=#define~NODE_MAJOR_VERSION~22;#define~NODE_MINOR_VERSION~9;#define~NODE_MODULE_VERSION~127;",
			want:  []Interpreter{{Language: "node", Path: "/usr/local/bin/node", Version: "22.9", ABI: []string{"127"}}}},
		"java": {
			files: "usr/lib/jvm/java-8/jre/bin/java usr/lib/jvm/java-8/release=JAVA_VERSION=\"1.8.0_402\"; opt/jdk/bin/java usr/bin/java->../../opt/jdk/bin/java opt/jdk/release=JAVA_VERSION=\"21\";",
			want: []Interpreter{{Language: "java", Path: "/opt/jdk/bin/java", Version: "21", ABI: []string{"65"}},
				{Language: "java", Path: "/usr/lib/jvm/java-8/jre/bin/java", Version: "1.8.0_402", ABI: []string{"52"}}}},
		"php": {
			files:    "usr/bin/php8.2 usr/bin/php->/etc/alternatives/php etc/alternatives/php->/usr/bin/php8.2 usr/bin/php7.4 usr/lib/php/20220829/x.so= usr/lib/php/20190902/x.so=",
			packages: []Package{{Name: "php8.2-cli", Provides: []string{"phpapi-20220829"}}, {Name: "php7.4-cli", Provides: []string{"phpapi-20190902"}}},
			want: []Interpreter{{Language: "php", Path: "/usr/bin/php7.4", Version: "7.4", ABI: []string{"20190902"}, Dirs: []string{"/usr/lib/php/20190902", "/usr/lib/php/20220829"}},
				{Language: "php", Path: "/usr/bin/php8.2", Version: "8.2", ABI: []string{"20220829"}, Dirs: []string{"/usr/lib/php/20190902", "/usr/lib/php/20220829"}}}},
		"lua": {
			files: "usr/bin/lua5.4 usr/lib/x86_64-linux-gnu/lua/5.4/x.so=",
			want:  []Interpreter{{Language: "lua", Path: "/usr/bin/lua5.4", Version: "5.4", ABI: []string{"5.4"}, Dirs: []string{"/usr/lib/x86_64-linux-gnu/lua/5.4"}}}},
	} {
		root := t.TempDir()
		for _, f := range strings.Fields(c.files) {
			f, target, isLink := strings.Cut(f, "->")
			f, content, isText := strings.Cut(f, "=")
			p := filepath.Join(root, f)
			err := os.MkdirAll(filepath.Dir(p), 0o755)
			switch {
			case err != nil:
			case isLink:
				err = os.Symlink(target, p)
			case isText:
				err = os.WriteFile(p, []byte(strings.NewReplacer(";", "\n", "~", " ").Replace(content)), 0o755)
			default:
				err = os.WriteFile(p, []byte("\x7fELF"), 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		live, err := OpenLive(root, LiveOptions{Packages: func() []Package { return c.packages }})
		if err != nil {
			t.Fatal(err)
		}
		if got := live.Facts().Interpreters; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v\nand not %+v", name, got, c.want)
		}
		live.Close()
	}
}
