package host

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// nul ends each word with NUL.
func nul(words ...string) string { return strings.Join(words, "\x00") + "\x00" }

func reader(s string) *bufio.Reader { return bufio.NewReaderSize(strings.NewReader(s), 64<<10) }

var (
	foundFile = nul("f", "4755", "0", "70001", "6", "-2.5000000000", "1795255555.0118420090", "65024", "99", "2", "./etc/x\n y", "")
	foundLink = nul("l", "777", "0", "0", "3", "5.0000000000", "5", "1", "2", "1", "./l", "../x")
	foundEnd  = nul("=", "1")
)

func TestFindRecords(t *testing.T) {
	in := &foundReader{r: reader(foundFile + foundLink + foundEnd)}
	f, err := in.next()
	want := snapshot.File{Path: "etc/x\n y", Type: snapshot.Regular, Mode: 0o4755, GID: 70001, Size: 6, MTime: -2}
	want.Change = stamp(inode{65024, 99}, 6, [2]int64{-2, 500_000_000}, [2]int64{1795255555, 11_842_009})
	if err != nil || !f.Same(want) || f.Change != want.Change || f.inode != (inode{65024, 99}) || f.names != 2 {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err = in.next(); err != nil || f.Target != "../x" || f.Size != 0 || f.MTime != 5 {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err = in.next(); err != io.EOF || in.status != 1 {
		t.Errorf("status %d, %v", in.status, err)
	}
	for _, bad := range []string{"", "f", foundFile[:40], nul("x"), strings.Replace(foundFile, "4755", "8", 1),
		strings.Replace(foundFile, "70001", "4294967296", 1), strings.Replace(foundFile, ".5", ".-5", 1), nul("=", "x")} {
		if _, err := (&foundReader{r: reader(bad)}).next(); err == nil || err == io.EOF {
			t.Errorf("%q is taken: %v", bad, err)
		}
	}
}

func TestStatRecords(t *testing.T) {
	const a = "81ed/1/2/3/4/5/6/7/8/2026-11-21 10:05:55.011842009 +0000/2026-11-21 10:05:55 +0000/"
	names := []string{"./a", "./gone", "./a\n" + a + "./b", "./b"}
	in := &statReader{r: reader(a + "./a\n" + a + "./a\n" + a + "./b\n" + a + "./b\n" + foundEnd), names: names, end: endWhole}
	var got []string
	for {
		f, err := in.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Path)
		if f.Mode != 0o755 || f.Change != stamp(inode{6, 7}, 3, [2]int64{4, 11_842_009}, [2]int64{5, 0}) || f.names != 8 {
			t.Errorf("%+v", f)
		}
	}
	if want := []string{"a", "a\n" + a + "./b", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := (&statReader{r: reader(a + "./other\n" + foundEnd), names: names, end: endWhole}).next(); !errors.Is(err, errMalformed) {
		t.Errorf("a name that wasn't asked for: %v", err)
	}
}

func attributesOf(t testing.TB, answer string, getcap bool) (*attributes, error) {
	t.Helper()
	a := newAttributes()
	line := a.fattr
	if getcap {
		line = a.cap
	}
	return a, a.read(reader(answer), line)
}

func TestGetfattr(t *testing.T) {
	a, err := attributesOf(t, "# file: etc/a\\012b\nuser.x\\075=0x612062\nuser.empty=0x\nuser.none\nsecurity.selinux=0x00\n\n"+
		"# file: .\nuser.overlay.x=0x00\nsecurity.capability=0x0100000200202000000000000000000000000000\n\n"+
		"# file: bad\nuser.x=0xfff\nsecurity.capability=0x00\n\n= 123\n", false)
	want := map[string]string{"user.x=": "a b", "user.empty": "", "user.none": ""}
	if err != nil || !maps.Equal(a.of["etc/a\nb"], want) || len(a.of["."]["security.capability"]) != 20 || len(a.of["."]) != 1 ||
		a.bad["bad"] == nil || a.of["bad"] != nil {
		t.Errorf("%q, %v, %v", a.of, a.bad, err)
	}
	for _, bad := range []string{"", "# file: x\n", "= 124\n", "= x\n"} {
		if _, err := attributesOf(t, bad, false); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestGetcap(t *testing.T) {
	const raw, all = "\x01\x00\x00\x02\x00\x20\x00\x00", "\x01\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x00\xff\x01\x00\x00"
	for line, want := range map[string]string{
		"./a/ping cap_net_raw=ep":                       raw,
		"./a/ping = cap_net_raw+ep":                     raw,
		"./a/ping cap_net_raw+p cap_net_raw+e":          raw,
		"./a/ping =ep":                                  all,
		"./a/ping all=ep":                               all,
		"./a/ping =ep cap_chown,cap_kill-p cap_chown+p": "\x01\x00\x00\x02\xdf\xff\xff\xff\x00\x00\x00\x00\xff\x01\x00\x00",
		"./a/ping cap_chown=i":                          "\x00\x00\x00\x02\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00",
		"./a/ping 63=p":                                 "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80",
		"./a/ping cap_nonsense=p":                       "",
		"./a/ping":                                      "",
		"/a/ping =ep":                                   "",
	} {
		splits := capSplits(line)
		got := ""
		if len(splits) > 0 {
			got, _ = parseCapability(splits[len(splits)-1].text)
		}
		if want != "" {
			want += strings.Repeat("\x00", 20-len(want))
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func TestComplaints(t *testing.T) {
	for line, want := range map[string]struct {
		path   string
		reason error
	}{
		"find: './root': Permission denied":                                 {"root", unix.EACCES},
		"find: './no x\\n\\377': Permission denied":                         {"no x\n\xff", unix.EACCES},
		"find: ./root: Permission denied":                                   {"root", unix.EACCES},
		"tar: ./secret: Cannot open: Operation not permitted":               {"secret", unix.EPERM},
		"tar: ./sec\\nret\\377 \\\\ q: Cannot open: Permission denied":      {"sec\nret\xff \\ q", unix.EACCES},
		"tar: can't open './secret': Permission denied":                     {"secret", unix.EACCES},
		"stat: can't stat './none': No such file or directory":              {"none", fs.ErrNotExist},
		"getfattr: ./x: Stale file handle":                                  {"x", unix.ESTALE},
		"tar: ./x: File shrank by 5 bytes; padding with zeros":              {"x", nil},
		"tar: Exiting with failure status due to previous errors":           {},
		"tar: ./../x: Permission denied":                                    {},
		"sha256sum: './sec'$'\\n''ret'$'\\377'' \\ q': Permission denied":   {},
		"sudo: unable to resolve host prod-7: Name or service not known":    {},
		"find: ‘./x’: Input/output error":                                   {"x’", unix.EIO},
		"find: './it\\'s': Permission denied":                               {"it's", unix.EACCES},
		"busybox: can't open './a: b': some reason: of its own, at the end": {"a: b", nil},
	} {
		p, reason, ok := parseComplaint(line)
		if ok != (want.path != "") || p != want.path && ok || want.reason != nil && !errors.Is(reason, want.reason) {
			t.Errorf("%s: %q, %v, %v", line, p, reason, ok)
		}
	}
}

func TestForeignMounts(t *testing.T) {
	var mounts []mount
	for line := range strings.SplitSeq(`22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:22 / /net rw - autofs auto rw
25 24 0:23 / /net rw - ext4 /dev/vdb rw
26 22 0:24 / /srv/a\040b rw - nfs4 far:/x rw
27 22 0:25 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw
28 22 0:26 / /opt/merged rw - overlay overlay rw
29 22 0:27 / /mnt/far rw - fuse.sshfs x rw
garbage
30 22 - tmpfs`, "\n") {
		if m, ok := parseMount(line); ok {
			mounts = append(mounts, m)
		}
	}
	if got, want := strings.Join(foreignMounts(mounts, "/"), "|"), "proc|srv/a b|var/lib/docker/overlay2/abc/merged|mnt/far"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := foreignMounts(mounts, "/srv"); !slices.Equal(got, []string{"a b"}) {
		t.Errorf("below /srv: %q", got)
	}
}

func TestPrune(t *testing.T) {
	if words, err := prune([]string{"proc", "a*[b"}); err != nil ||
		strings.Join(words, " ") != `-type d ( -path ./proc -o -path ./a\*\[b ) -prune -o` {
		t.Errorf("%q, %v", words, err)
	}
	many := []string{"proc"}
	for i := range 2000 {
		many = append(many, "var/lib/docker/overlay2/"+strings.Repeat(string(rune('a'+i%26)), 1+i/26)+"/merged")
	}
	if words, err := prune(many); err != nil || !slices.Contains(words, "./var/lib/docker/overlay2/*/merged") || !slices.Contains(words, "./proc") {
		t.Errorf("%d words, %v", len(words), err)
	}
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]int64{"500000": 500000, "500k": 500 << 10, "2M": 2 << 20, "1G": 1 << 30, "0": 0, "-1": 0, "": 0, "x": 0, "1T": 0,
		"9999999999G": 0} {
		if got, err := ParseRate(in); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
}

func TestSSHAddress(t *testing.T) {
	for in, want := range map[string]string{"ssh://prod": "ssh://prod", "ssh://root@prod-7.acme.example:2222/": "ssh://root@prod-7.acme.example:2222",
		"ssh://[::1]:22": "ssh://[::1]:22", "ssh://a_b@c": "ssh://a_b@c", "ssh:prod": "", "ssh://": "", "ssh://-oProxyCommand=x": "", "ssh://-l@x": "",
		"ssh://a:b@x": "", "ssh://x/etc": "", "ssh://x?y": "", "ssh://x:0": "", "ssh://x:99999": "", "ssh://a$b": "", "ssh://a%20b": "", "ssh://%0a@b": "",
		"ssh://a;b@c": ""} {
		c, err := parseSSH(in)
		if (err == nil) != (want != "") || err == nil && c.address() != want {
			t.Errorf("%q: %+v, %v", in, c, err)
		}
	}
}

// The scripts stand in single quotes, for whatever shell somebody logs in with.
func TestScriptsAreOneLine(t *testing.T) {
	steps, err := Commands("ssh://prod")
	if err != nil || len(steps) < 10 {
		t.Fatalf("%v, %v", steps, err)
	}
	for _, have := range []string{"", "getfattr find-printf gnu-tar gzip nice ionice mounts sha256sum", "getcap stat-c"} {
		x := tools{have: map[string]bool{}, root: true, zip: true}
		for h := range strings.FieldsSeq(have) {
			x.have[h] = true
		}
		for _, script := range []string{probeScript, x.listScript(), x.namesScript("l"), x.statScript(), x.attributeScript(),
			x.readScript(7), x.folderScript(), x.sumScript(), x.linkScript()} {
			if strings.ContainsAny(script, "'!\n") || strings.Contains(script, "/dev/null") || strings.ContainsAny(strings.ReplaceAll(script, "2>&1", ""), "<>") {
				t.Errorf("%s", script)
			}
		}
	}
}

func FuzzFindRecords(f *testing.F) {
	f.Add(foundFile + foundLink + foundEnd)
	f.Fuzz(func(t *testing.T, answer string) {
		in := &foundReader{r: reader(answer)}
		for range 10_000 {
			e, err := in.next()
			if err != nil {
				return
			}
			if e.Mode > 0o7777 || e.Size < 0 || e.Type != snapshot.Symlink && e.Target != "" {
				t.Errorf("%+v", e)
			}
		}
	})
}

func FuzzStatRecords(f *testing.F) {
	f.Add("81ed/1/2/3/4/5/6/7/8/2026-11-21 10:05:55.011842009 +0000/x/./a\n"+foundEnd, "./a", "./b")
	f.Fuzz(func(t *testing.T, answer, a, b string) {
		in := &statReader{r: reader(answer), names: []string{a, b}, end: endWhole}
		for n := 0; ; n++ {
			e, err := in.next()
			if err != nil {
				return
			}
			if n > 1 || e.Path != relative(a) && e.Path != relative(b) || e.Mode > 0o7777 || e.Size < 0 {
				t.Errorf("record %d: %+v", n, e)
			}
		}
	})
}

func FuzzGetfattr(f *testing.F) {
	f.Add("# file: a\\012b\nuser.x\\075=0x612062\nsecurity.capability=0x0100000200202000000000000000000000000000\n\n= 0\n")
	f.Fuzz(func(t *testing.T, answer string) { checkAttributes(t, answer, false) })
}

func FuzzGetcap(f *testing.F) {
	f.Add("./a/ping cap_net_raw=ep\n./b = cap_chown+i\n= 0\n")
	f.Fuzz(func(t *testing.T, answer string) { checkAttributes(t, answer, true) })
}

func checkAttributes(t *testing.T, answer string, getcap bool) {
	a, _ := attributesOf(t, answer, getcap)
	for p, all := range a.of {
		for name, value := range all {
			if !keptXattr(name) || name == "security.capability" && len(value) != 20 {
				t.Errorf("%q has %q = %q", p, name, value)
			}
		}
	}
}

func FuzzComplaint(f *testing.F) {
	f.Add("tar: ./sec\\nret\\377 \\\\ q: Cannot open: Permission denied")
	f.Add("find: './it\\'s': Permission denied")
	f.Fuzz(func(t *testing.T, line string) {
		if p, reason, ok := parseComplaint(line); ok && (!snapshot.ValidPath(p) || reason == nil) {
			t.Errorf("%q, %v", p, reason)
		}
	})
}

func FuzzProbe(f *testing.F) {
	f.Add("kernel 6.1\nversion Linux version 6.1\ncall sys_read\nmachine x86_64\nuid 0\nhave tar\nhave xargs\nhave find-printf\ncpu flags : fpu\nmount 22 1 254:0 / /a\\040b rw - nfs x rw\nend\n")
	f.Fuzz(func(t *testing.T, answer string) {
		p, err := readProbe(strings.NewReader(answer))
		if err != nil {
			return
		}
		if !slices.Equal(p.live.SystemCalls, snapshot.SystemCalls(p.live.SystemCalls)) {
			t.Errorf("%q", p.live.SystemCalls)
		}
		for _, folder := range foreignMounts(p.mounts, "/") {
			if !snapshot.ValidPath(folder) {
				t.Errorf("%q", folder)
			}
		}
	})
}

func FuzzArchives(f *testing.F) {
	var b strings.Builder
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "./a", Size: 2, Mode: 0o644, Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write([]byte("hi"))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.String() + strings.Repeat("\x00", 512) + nul("+", "0") + foundFile + foundEnd)
	f.Fuzz(func(t *testing.T, answer string) {
		s := &Shell{probed: &probed{tools: tools{have: map[string]bool{"find-printf": true}}}}
		r := reader(answer)
		_ = archives(r, func(_ *tar.Header, content io.Reader) error {
			_, err := io.CopyN(io.Discard, content, 1<<20)
			if err == io.EOF {
				return nil
			}
			return err
		}, func() error { return s.looked(r, nil, func(snapshot.File) {}) })
	})
}
