package artifact

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/stead-env/stead/envs/artifact/system"
)

// The kernel's own limits for a script's first line.
const (
	shebangSize    = 255 // bytes that it reads, since 5.1; 127 before
	oldShebangSize = 127
	maxShebangs    = 4 // scripts that are interpreted by scripts
)

// searchPath is where a program is looked for by name. What a service or a login shell
// really has may be more.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// checkText judges what isn't ELF: a script, by who interprets it. It is nil for files
// that nobody starts.
func (v *view) checkText(f *File, only bool) *check {
	if !only && (!f.Executable || strings.HasPrefix(f.Path, "/usr/share/doc/")) || len(f.Head) == 0 {
		return nil
	}
	c := v.check(f, Script)
	if bytes.HasPrefix(f.Head, []byte("#!")) {
		c.shebang(f.Head, 0)
		if !f.Executable {
			c.remark("mode", "%s may not be executed: its mode says so", c.name)
		}
		return c
	}
	switch dir := path.Base(path.Dir(f.Path)); {
	case !only && dir != "bin" && dir != "sbin":
		return nil
	case bytes.HasPrefix(f.Head, []byte("MZ")):
		c.answer.Kind = Other
		c.unproven("bad-file", "%s is a program for Windows: whether something on %s runs those isn't known", c.name, c.Name)
		return c
	case !f.Executable || bytes.IndexByte(f.Head, 0) >= 0:
		return nil
	}
	c.unproven("interpreter", "%s names no interpreter (#!): shells run it themselves, and nobody else does", c.name).
		way("begin it with #!/bin/sh")
	return c
}

// shebang judges the first line of a script as the kernel reads it.
func (c *check) shebang(head []byte, depth int) {
	line, ok := c.firstLine(head)
	if !ok {
		return
	}
	text := strings.Trim(line, " \t")
	interpreter, arg := text, ""
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		interpreter, arg = text[:i], strings.TrimLeft(text[i:], " \t")
	}
	switch {
	case interpreter == "":
		c.fails("interpreter", "%s names no interpreter after #!", c.name)
		return
	case strings.HasSuffix(text, "\r") && (arg == "" || !strings.HasPrefix(path.Base(interpreter), "perl")): // which skips it
		c.fails("interpreter", "the first line of %s ends with a carriage return, which belongs to the name then: %q",
			c.name, text).way("save it with Unix line ends: dos2unix %s", c.name)
		return
	case !path.IsAbs(interpreter):
		c.unproven("interpreter", "%s is interpreted by %s, which is looked for in the folder that it is started in",
			c.name, interpreter)
		return
	}
	if name := path.Base(interpreter); name == "env" {
		c.env(interpreter, arg, depth)
		return
	}
	c.interpretedBy(interpreter, interpreter, depth)
}

// firstLine is what the target's kernel reads of a script's first line. Where that is cut
// off within its argument, the script starts with the rest of it missing.
func (c *check) firstLine(head []byte) (line string, ok bool) {
	limit, who := shebangSize, "kernels read"
	if v, known := kernelVersion(c.Host.Kernel); known && (v[0] < 5 || v[0] == 5 && v[1] == 0) {
		limit, who = oldShebangSize, "Linux "+c.Host.Kernel+" of "+c.Name+" reads"
	}
	text, _, _ := bytes.Cut(head, []byte("\n"))
	text, _, _ = bytes.Cut(text, []byte{0})
	if len(text) <= limit {
		return string(text[2:]), true
	}
	line = strings.TrimLeft(string(text[2:limit]), " \t")
	if !strings.ContainsAny(line, " \t") {
		c.fails("interpreter", "the first line of %s is longer than the %d bytes that %s", c.name, limit, who).
			way("start it by a wrapper, or from a shorter path")
		return "", false
	}
	if strings.Trim(string(text[limit:]), " \t") != "" {
		c.unproven("interpreter", "the first line of %s is longer than the %d bytes that %s: the rest is cut off", c.name,
			limit, who)
	}
	return line, true
}

// env judges #!/usr/bin/env NAME: env looks NAME up in PATH.
func (c *check) env(env, arg string, depth int) {
	found, ok := c.sys.Find(env)
	if !ok || found.Dir {
		c.missingInterpreter(env)
		return
	}
	if arg == "" {
		c.fails("interpreter", "%s is started by %s, which is told no program", c.name, env).way("#!%s NAME", env)
		return
	}
	words, split := envWords(arg)
	if len(words) == 0 {
		c.unproven("interpreter", "%s is started by %s %s, which isn't followed", c.name, env, arg)
		return
	}
	if split && !c.splits(found) {
		c.fails("interpreter", "%s is started by env -S, which env of %s%s doesn't know", c.name, c.Name,
			c.inPackage(found)).way("name the interpreter itself in the first line")
		return
	}
	if !split && len(words) > 1 {
		c.fails("interpreter", "%s is started by %s, which takes %q for one name", c.name, env, arg).
			way("#!%s -S %s", env, arg)
		return
	}
	name := words[0]
	if strings.Contains(name, "/") {
		c.interpretedBy(name, name, depth)
		return
	}
	for _, dir := range searchPath {
		if f, ok := c.sys.Find(path.Join(dir, name)); ok && !f.Dir {
			c.interpretedBy(path.Join(dir, name), name, depth)
			return
		}
	}
	c.missingInterpreter(name)
}

// envWords are the words that env makes of its argument: the program comes first. Other
// options than -S aren't followed, nor is what -S takes for quotes, escapes, variables or
// remarks, and give none.
func envWords(arg string) (words []string, split bool) {
	rest, split := strings.CutPrefix(arg, "-S")
	if !split {
		rest, split = strings.CutPrefix(arg, "--split-string=")
	}
	if split && strings.ContainsAny(rest, `"'\$#`) {
		return nil, true
	}
	words = strings.Fields(rest)
	for split && len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:]
	}
	if len(words) > 0 && strings.HasPrefix(words[0], "-") {
		return nil, split
	}
	return words, split
}

// splits tells whether the target's env has -S: GNU's since coreutils 8.30. Where its
// version isn't known it counts as having it.
func (c *check) splits(env system.File) bool {
	if strings.HasPrefix(path.Base(env.Path), "busybox") {
		return false
	}
	for _, p := range c.versions["coreutils"] {
		return compareNumbers(p.Version, "8.30") >= 0
	}
	return true
}

// interpretedBy judges a script by its interpreter: the target's own does, the artifact's
// has to start itself.
func (c *check) interpretedBy(name, as string, depth int) {
	found, ok := c.sys.Find(name)
	if !ok || found.Dir {
		c.missingInterpreter(as)
		return
	}
	if c.venv(name, found) {
		return
	}
	if !found.Executable {
		c.fails("interpreter", "%s is interpreted by %s, which %s lets nobody execute: its mode says so", c.name, as, c.Name)
		return
	}
	var f *File
	if c.over != nil {
		f, _, _ = c.over.at(name)
	}
	c.answer.Needs = append(c.answer.Needs, Need{Library: as, Path: found.Path, Package: c.brought(found)})
	switch {
	case f == nil:
		if line := found.Script(); line != "" {
			c.nested("#!"+line, depth)
		}
	case f == c.file:
		c.fails("interpreter", "%s is interpreted by itself", c.name)
	case bytes.HasPrefix(f.Head, []byte("#!")):
		c.nested(string(f.Head), depth)
	default:
		c.answer.Travels = append(c.answer.Travels, f.Name)
		c.startsLike(f)
	}
}

// nested judges a script that interprets another.
func (c *check) nested(head string, depth int) {
	if depth >= maxShebangs {
		c.fails("interpreter", "%s is interpreted by a script that is interpreted by a script, and so on: kernels give up",
			c.name)
		return
	}
	c.shebang([]byte(head), depth+1)
}

// startsLike takes over the reasons of a program of the artifact that interprets a script.
func (c *check) startsLike(f *File) {
	switch {
	case f.Object != nil:
		other := c.checkObject(f)
		c.answer.Reasons = append(c.answer.Reasons, other.answer.Reasons...)
		c.answer.Travels = append(c.answer.Travels, other.answer.Travels...)
	case f.Err != nil:
		c.fails("interpreter", "%s is interpreted by %s, which no kernel takes: %v", c.name, f.Path, f.Err)
	default:
		c.fails("interpreter", "%s is interpreted by %s, which is no program", c.name, f.Path)
	}
}

func (c *check) missingInterpreter(name string) {
	r := c.fails("interpreter", "%s is interpreted by %s, which %s hasn't", c.name, name, c.Name)
	r.Library, r.When = name, atLoad
	base := path.Base(name)
	stem := strings.TrimRight(base, "0123456789.")
	for _, i := range c.Facts.Interpreters {
		if i.Language == stem {
			r.way("%s has %s %s: #!%s", c.Name, i.Language, i.Version, i.Path)
		}
	}
	for _, dir := range searchPath {
		at := path.Join(dir, base)
		if f, ok := c.sys.Find(at); ok && !f.Dir && at != name {
			r.way("%s has it at %s: #!/usr/bin/env %s", c.Name, at, base)
			break
		}
	}
}

// venv judges a script of a Python virtual environment: its packages lie in a folder of
// one minor version, and its Python is the target's. It is true where it said something
// final.
func (c *check) venv(name string, found system.File) bool {
	if c.over == nil {
		return false
	}
	top := path.Dir(path.Dir(path.Clean(name)))
	cfg, _, ok := c.over.at(path.Join(top, "pyvenv.cfg"))
	if !ok {
		return false
	}
	want := ""
	for line := range strings.Lines(string(cfg.Head)) {
		key, value, _ := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); key == "version" || key == "version_info" {
			want = minorOf(strings.TrimSpace(value))
		}
	}
	if want == "" {
		c.unproven("interpreter", "%s doesn't say which Python it is for", cfg.Name)
		return false
	}
	for _, i := range c.interpreters("python") {
		if i.Path != found.Path {
			continue
		}
		have := minorOf(i.Version)
		if have == want {
			return false
		}
		r := c.fails("interpreter", "%s is of a virtual environment for Python %s, whose packages Python %s of %s%s"+
			" doesn't look for", c.name, want, have, c.Name, c.inPackage(found))
		r.Version, r.Found, r.Package = want, found.Path, c.brought(found)
		r.way("make the virtual environment in %s", c.Name)
		return true
	}
	if f, _, ok := c.over.at(name); !ok || f.Object == nil {
		c.unproven("interpreter", "%s is of a virtual environment for Python %s, and which version %s is isn't known",
			c.name, want, found.Path)
	}
	return false
}

// minorOf is "3.11" of "3.11.2".
func minorOf(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return version
	}
	return fmt.Sprintf("%s.%s", parts[0], parts[1])
}
