package host

import (
	"fmt"
	"strconv"
	"strings"
)

// What runs on a host that is read by commands. All of it is constant but for numbers:
// a path of the host only ever travels on stdin, NUL-separated. The text stands in single
// quotes when ssh hands it to somebody's login shell, so it holds none, no newline and no
// "!", which csh would take.

// Marks in what comes back. begin stands before everything a script prints: a login
// shell's own files may print first. A part ends with the mark of its kind, a status and
// NULs; neither begins like a record of the part.
const (
	begin    = "=stead="
	endPart  = "+" // of an archive, or of sums
	endWhole = "=" // of the records behind it
)

// preamble goes to the root, which is "/" unless it is given as an argument.
const preamble = `LC_ALL=C; export LC_ALL; PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin; export PATH; ` +
	`cd -P "${1:-/}" || exit 96; echo ` + begin + `; `

// symbolPattern finds the kernel's own functions for system calls in /proc/kallsyms or
// System.map, where they have a dozen names: sys_read, SyS_read, compat_sys_ioctl,
// sys32_mmap, __x64_sys_read, __ia32_compat_sys_ioctl, __arm64_sys_read.
const symbolPattern = `^[^ ]* [Tt] \(_*[aimrx]*[0-9]*_*[acmopt_]*[sS]y[sS][0-9]*_[a-z0-9_]*\)$`

// probeScript asks once for all that is known before the listing. It redirects nothing to
// /dev/null: in a root without one that would make a file.
const probeScript = preamble +
	`echo "kernel $(uname -r)"; echo "machine $(uname -m)"; echo "uid $(id -u)"; echo "user $(id -un)"; ` +
	`for p in nice xargs gzip getfattr getcap sha256sum tar; do x=$(command -v $p 2>&1) && echo "have $p"; done; ` +
	`x=$(ionice -c 3 uname 2>&1) && echo "have ionice"; ` +
	`x=$(sudo -n true 2>&1) && echo "have sudo"; ` +
	`x=$(find . -maxdepth 0 -printf "have find-printf" 2>&1) && echo "$x"; ` +
	`x=$(stat -c "have stat-c" . 2>&1) && echo "$x"; ` +
	`x=$(tar --xattrs --xattrs-include="*" --version 2>&1) && echo "have tar-xattrs"; ` +
	`tar --version | sed -n "s/^tar (GNU tar).*/have gnu-tar/p"; ` +
	`sed -n "/^flags/{s/^/cpu /p;q;}" /proc/cpuinfo; ` +
	`x=$(sed "s/^/version /" /proc/version 2>&1) && echo "$x"; ` +
	`for f in /proc/kallsyms "/boot/System.map-$(uname -r)" "/lib/modules/$(uname -r)/System.map"; do ` +
	`x=$(sed -n "s/` + symbolPattern + `/call \1/p" "$f" 2>&1) && case $x in *_read*) echo "$x"; break;; esac; done; ` +
	`sed "s/^/mount /" /proc/self/mountinfo; echo "end"`

// findFields are those of a record of find; each ends with NUL.
const findFields = `%y\0%m\0%U\0%G\0%s\0%T@\0%C@\0%D\0%i\0%n\0%p\0%l\0`

// statFields are those of a record of stat where find prints no fields.
const statFields = `%f/%u/%g/%s/%Y/%Z/%d/%i/%h/%y/%z/%n`

// tools are what a host has to be read with.
type tools struct {
	have map[string]bool
	root bool // commands run as root
	sudo bool // by way of sudo
	zip  bool // what comes goes over a wire
}

// listScript lists all metadata. Words of a find expression come on stdin: the folders
// that are not entered.
func (t tools) listScript() string {
	return t.script(`xargs -0 sh -c "find . ` + t.xdev() + `\\( \"\$@\" -name \"*\" \\) -printf \"` + findFields + `\"; printf \"` +
		endWhole + `\0%s\0\" \$?" sh`)
}

// namesScript lists the names alone: all, or those of links.
func (t tools) namesScript(kind string) string {
	if kind != "" {
		kind = "-type " + kind + " "
	}
	return t.script(`xargs -0 sh -c "find . ` + t.xdev() + `\\( \"\$@\" -name \"*\" \\) ` + kind + `-print0; printf \"` +
		endWhole + `\0%s\0\" \$?" sh`)
}

// statScript tells the metadata of the names on stdin.
func (t tools) statScript() string {
	return t.script(`xargs -0 -r stat -c "` + statFields + `" --; printf "` + endWhole + `\0%s\0" $?`)
}

// attributeScript prints the extended attributes of everything, or the capabilities.
// getcap prints names as they are: those with control characters are left out.
func (t tools) attributeScript() string {
	const walk, end = `xargs -0 sh -c "find . `, `; echo "` + endWhole + ` $?"`
	if t.have["getfattr"] {
		return t.script(walk + t.xdev() + `\"\$@\" -type l -o -print0" sh | ` +
			`xargs -0 -r getfattr -h -d -m "^(user[.]|security[.]capability|system[.]posix_acl_)" -e hex --` + end)
	}
	return t.script(walk + t.xdev() + `\"\$@\" -path \"*[[:cntrl:]]*\" -o -type f -print0" sh | xargs -0 -r getcap` + end)
}

// folderScript packs all folders, without what is in them, for their extended attributes.
func (t tools) folderScript() string {
	return t.script(`xargs -0 sh -c "find . ` + t.xdev() + `\"\$@\" -type d -print0" sh | xargs -0 -r sh -c "` + gnuTar +
		` --format=posix ` + withXattrs + ` --no-recursion -cf - -- \"\$@\"; printf \"` + endPart + `\0%s\0\" \$?" sh`)
}

// gnuTar says what it complains of in a way that can be read.
const (
	gnuTar     = `tar --no-unquote --quoting-style=escape`
	withXattrs = `--xattrs --xattrs-include=\"*\"`
)

// folders reports whether tar tells the extended attributes of folders, because nothing
// better does.
func (t tools) folders() bool {
	return !t.have["getfattr"] && t.have["gnu-tar"] && t.have["tar-xattrs"]
}

// xdev keeps find on the root's file system where nothing tells which others are
// real.
func (t tools) xdev() string {
	if t.have["mounts"] {
		return ""
	}
	return "-xdev "
}

// readScript packs the files named on stdin, some at a time, and looks at them again
// afterwards: what changed meanwhile isn't taken.
func (t tools) readScript(some int) string {
	tar := "tar -cf - --no-recursion"
	if t.have["gnu-tar"] {
		tar = gnuTar + " --format=gnu -S --no-recursion -cf -"
		if t.folders() {
			tar = gnuTar + " --format=posix " + withXattrs + " -S --no-recursion -cf -"
		}
		if t.root { // the kernel lets nobody else
			tar = strings.Replace(tar, "-S", "-S --atime-preserve=system", 1)
		}
	}
	return t.pairScript(some, tar+` -- \"\$@\"`)
}

// sumScript takes the SHA-256 of the files named on stdin, in the same way.
func (t tools) sumScript() string { return t.pairScript(500, `sha256sum -- \"\$@\"`) }

// linkScript packs the links named on stdin: that tells where they lead.
func (t tools) linkScript() string {
	return t.script(`xargs -0 -r sh -c "tar -cf - --no-recursion -- \"\$@\"; printf \"` + endPart + `\0%s\0\" \$?" sh`)
}

func (t tools) pairScript(some int, command string) string {
	look := `stat -c \"` + statFields + `\" -- \"\$@\"`
	if t.have["find-printf"] {
		look = `find \"\$@\" -maxdepth 0 -printf \"` + findFields + `\"`
	}
	return t.script(`xargs -0 -r -n ` + strconv.Itoa(some) + ` sh -c "` + command + `; printf \"` + endPart + `\0%s\0\" \$?; ` +
		look + `; printf \"` + endWhole + `\0%s\0\" \$?" sh`)
}

func (t tools) script(body string) string {
	if t.zip && t.have["gzip"] {
		return preamble + "{ " + body + "; } | gzip -1"
	}
	return preamble + body
}

// before are the words that stand before the shell: what is asked comes after all else
// that the host has to do.
func (t tools) before() []string {
	var words []string
	if t.have["nice"] {
		words = append(words, "nice", "-n", "19")
	}
	if t.have["ionice"] {
		words = append(words, "ionice", "-c", "3")
	}
	if t.sudo {
		words = append(words, "sudo", "-n")
	}
	return words
}

// commandLine is what a login shell is given to run a script.
func (t tools) commandLine(script string) string {
	return fmt.Sprintf("exec %s '%s'", strings.Join(append(t.before(), "sh", "-c"), " "), script)
}
