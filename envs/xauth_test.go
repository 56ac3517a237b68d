package envs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What xauth(1) wrote it can read again, for one display and any host.
func TestXauth(t *testing.T) {
	if _, err := exec.LookPath("xauth"); err != nil {
		t.Skipf("%v: see .ci/setup", err)
	}
	file := filepath.Join(t.TempDir(), "Xauthority")
	xauth := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("xauth", append([]string{"-q", "-f", file}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("xauth %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	xauth("add", "machine/unix:0", ".", strings.Repeat("aa", 16))
	xauth("add", "machine/unix:10", ".", strings.Repeat("bb", 16))
	xauth("add", "127.0.0.1:1", ".", strings.Repeat("cc", 16))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cookies, err := xauthFor(data, "10")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, cookies, 0o600); err != nil {
		t.Fatal(err)
	}
	want := "ffff 0000  0002 3130 0012 4d49542d4d414749432d434f4f4b49452d31 0010 " + strings.Repeat("bb", 16)
	if got := strings.Join(strings.Fields(xauth("nlist")), " "); got != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, cut := range []int{1, 3, 5, len(data) - 1} {
		if _, err := xauthFor(data[:cut], "10"); err == nil {
			t.Errorf("%d bytes of it were read", cut)
		}
	}
}

func FuzzXauth(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x01m\x00\x010\x00\x01n\x00\x01d"), "0")
	f.Add([]byte{}, "10")
	f.Fuzz(func(t *testing.T, data []byte, number string) {
		if len(number) > 5 {
			return
		}
		once, err := xauthFor(data, number)
		if err != nil {
			return
		}
		if twice, err := xauthFor(once, number); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x became %x, %v", once, twice, err)
		}
	})
}
