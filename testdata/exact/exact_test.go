package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// write makes files below a root, by path; a value that starts with "-> " is a link.
func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for path, content := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, full)
		} else if err = os.WriteFile(full, []byte(content), 0o644); err == nil {
			err = os.Chtimes(full, time.Unix(1e9, 0), time.Unix(1e9, 0))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

var files = map[string]string{
	"usr/bin/tool":               "tool",
	"usr/bin/tool.real":          "diverted",
	"etc/passwd":                 "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
	"etc/shadow":                 "root:$6$hash:1:0:99999:7:::\n",
	"etc/tool.conf":              "conf",
	"opt/app/run":                "run",
	"var/lib/dpkg/diversions":    "/usr/bin/tool\n/usr/bin/tool.real\n:\n",
	"var/lib/dpkg/info/a.list":   "/.\n/bin\n/bin/tool\n/usr/bin/tool\n/srv/data\n",
	"var/lib/dpkg/info/b:x.list": "/etc/tool.conf\n",
	"srv/data":                   "owned",
	"srv/other":                  "state",
	"home/ann/notes":             "state",
}

func TestCompare(t *testing.T) {
	tests := []struct {
		name   string
		change func(root string) error
		want   string // in the report; "" where nothing differs
	}{
		{"equal", func(string) error { return nil }, ""},
		{"state left behind", func(root string) error { return os.RemoveAll(root + "/home") }, ""},
		{"content", func(root string) error {
			err := os.WriteFile(root+"/opt/app/run", []byte("ran"), 0o644)
			return errorsOr(err, os.Chtimes(root+"/opt/app/run", time.Unix(1e9, 0), time.Unix(1e9, 0)))
		}, `"opt/app/run": content`},
		{"mode", func(root string) error { return os.Chmod(root+"/usr/bin/tool.real", 0o755|os.ModeSetgid) }, `"usr/bin/tool.real": mode 0102755`},
		{"time", func(root string) error { return os.Chtimes(root+"/srv/data", time.Now(), time.Now()) }, `"srv/data": mtime`},
		{"missing", func(root string) error { return os.Remove(root + "/etc/tool.conf") }, `"etc/tool.conf": is missing`},
		{"state that changed", func(root string) error { return os.Truncate(root+"/srv/other", 1) }, `"srv/other": size`},
		{"extra", func(root string) error { return os.Mkdir(root+"/opt/new", 0o755) }, `"opt/new": is not on the host`},
		{"link", func(root string) error {
			return errorsOr(os.Remove(root+"/bin"), os.Symlink("usr/../usr/bin", root+"/bin"))
		}, `"bin": target`},
		{"hard link", func(root string) error {
			return errorsOr(os.Remove(root+"/srv/data"), os.Link(root+"/opt/app/run", root+"/srv/data"))
		}, `"srv/data": size`},
		{"password", func(root string) error { return os.WriteFile(root+"/etc/shadow", []byte(files["etc/shadow"]), 0o644) }, "root has a password"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			host, env := t.TempDir(), t.TempDir()
			for _, root := range []string{host, env} {
				write(t, root, files)
				write(t, root, map[string]string{"bin": "-> usr/bin"})
			}
			write(t, env, map[string]string{"etc/shadow": "root:*:1:0:99999:7:::\n", "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"})
			if err := os.Lchown(env+"/bin", os.Getuid(), os.Getgid()); err != nil {
				t.Fatal(err)
			}
			sameLinkTime(t, host, env)
			if err := test.change(env); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			fine, err := compare(&out, host, env, nil)
			if err != nil {
				t.Fatal(err)
			}
			if fine != (test.want == "") || !strings.Contains(out.String(), test.want) {
				t.Errorf("fine = %v, report:\n%swant %q", fine, out.String(), test.want)
			}
		})
	}
}

func errorsOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// sameLinkTime waits until both links were made in one second: Go sets no times on links.
func sameLinkTime(t *testing.T, host, env string) {
	t.Helper()
	for {
		a, errA := os.Lstat(host + "/bin")
		b, errB := os.Lstat(env + "/bin")
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.ModTime().Unix() == b.ModTime().Unix() {
			return
		}
		for _, root := range []string{host, env} {
			if err := errorsOr(os.Remove(root+"/bin"), os.Symlink("usr/bin", root+"/bin")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestScanSecrets(t *testing.T) {
	const marker = "0123456789abcdef0123456789abcdef"
	planted := []secret{{[]byte(marker), "etc/key"}}
	dir := t.TempDir()
	long := strings.Repeat("x", 1<<20-7) // the marker lies across two reads
	hidden := func(name, content string) bool {
		t.Helper()
		f, err := os.Create(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		var w io.WriteCloser = f
		if name == "gzip" {
			w = gzip.NewWriter(f)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
		if err := errorsOr(w.Close(), nil); err != nil {
			t.Fatal(err)
		}
		f.Close()
		fine, err := scanSecrets(io.Discard, planted, []string{dir})
		if err != nil {
			t.Fatal(err)
		}
		return !fine
	}
	member := "!<arch>\nname            0           0     0     100644  40        `\n" + marker + "12345678"
	for _, name := range []string{"raw", "gzip"} {
		for content, want := range map[string]bool{marker: true, long + marker: true, long: false, member: true} {
			if got := hidden(name, content); got != want {
				t.Errorf("%s of %d bytes: found = %v, want %v", name, len(content), got, want)
			}
		}
	}
}
