package runtime

import (
	"errors"
	"os"
	goruntime "runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const aarch64Handler = `enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
`

func TestParseHandler(t *testing.T) {
	h, ok := parseHandler("qemu-aarch64", aarch64Handler)
	if !ok || !h.fixed || h.interpreter != "/usr/libexec/qemu-binfmt/aarch64-binfmt-P" {
		t.Fatalf("got %+v, %v", h, ok)
	}
	for _, m := range machines {
		if h.matches(m.header()) != (m.qemu == "aarch64") {
			t.Errorf("%s: %v", m.qemu, h.matches(m.header()))
		}
	}
	if h.matches([]byte("\x7fELF")) {
		t.Error("a short file is matched")
	}
	for _, bad := range []string{"", "enabled\n", "disabled\n" + strings.TrimPrefix(aarch64Handler, "enabled\n"),
		"enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n", "enabled\nmagic zz\n", "enabled\noffset -4\nmagic 00\n"} {
		if h, ok := parseHandler("x", bad); ok {
			t.Errorf("%q is taken: %+v", bad, h)
		}
	}
	if h, _ := parseHandler("x", strings.Replace(aarch64Handler, "POF", "P", 1)); h.fixed {
		t.Error("a handler without F is fixed")
	}
}

func FuzzHandler(f *testing.F) {
	f.Add(aarch64Handler, []byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, text string, head []byte) {
		if h, ok := parseHandler("x", text); ok {
			h.matches(head)
		}
	})
}

// The kernel itself tells what it doesn't execute.
func TestTried(t *testing.T) {
	odd := machines[0]
	odd.number = 0xfade
	if err := tried(odd.header()); err != unix.ENOEXEC {
		t.Errorf("a program for no machine gives %v", err)
	}
	if bad := odd.emulated("x86_64", nil); bad == nil || bad.Code != CodeNotExecutable {
		t.Errorf("it runs: %v", bad)
	}
}

func TestCheckArchitecture(t *testing.T) {
	own := map[string]string{"amd64": "amd64", "arm64": "arm64", "386": "i386"}[goruntime.GOARCH]
	for _, name := range []string{own, "", "z80"} {
		if err := CheckArchitecture(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := "s390x"
	for _, m := range machines {
		if m.qemu == other && tried(m.header()) != unix.ENOEXEC {
			t.Skip("this machine runs programs for it")
		}
	}
	err := CheckArchitecture(other)
	var bad *Error
	if !errors.As(err, &bad) || bad.Code != CodeNotExecutable || !strings.Contains(bad.Error(), "programs for s390x") ||
		!strings.Contains(bad.Remedy, "sudo ") || !strings.Contains(bad.Remedy, "qemu-") {
		t.Errorf("got %v, hint %v", err, bad)
	}
}

// The format of a file tells it too, whatever the env says.
func TestForeignProgram(t *testing.T) {
	root := t.TempDir()
	for _, m := range machines {
		if m.qemu != "s390x" && m.qemu != "i386" {
			continue
		}
		if err := os.WriteFile(root+"/"+m.qemu, m.header(), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/script", []byte("#!/"+m.qemu+" -e\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"/script", "/" + m.qemu} {
			err := Lookup(Spec{Name: "acme@1", Command: []string{name}}, root)
			code := 0
			if err != nil {
				code = ExitCode(err)
			}
			want := 0
			if m.runs(nil) != nil {
				want = CodeNotExecutable
			}
			if code != want || err != nil && !strings.HasPrefix(err.Error(), "executing "+name) {
				t.Errorf("%s for %s: %v, want %d", name, m.qemu, err, want)
			}
		}
	}
}
