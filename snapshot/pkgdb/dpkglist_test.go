package pkgdb

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stead-env/stead/snapshot"
)

const tableHeader = `Desired=Unknown/Install/Remove/Purge/Hold
| Status=Not/Inst/Conf-files/Unpacked/halF-conf/Half-inst/trig-aWait/Trig-pend
|/ Err?=(none)/Reinst-required (Status,Err: uppercase=bad)
`

// table writes rows as dpkg -l does, for a width of the terminal, or for what is in
// them where it is 0.
func table(width int, rows [][5]string) string {
	w := [4]int{14, 12, 12, 33}
	if spare := max(width-80, 0) / 2; width > 0 {
		w = [4]int{14 + spare/2, 12 + spare/4, 12 + spare/4, 33 + spare}
	} else {
		for _, r := range rows {
			for i := range w {
				w[i] = max(w[i], len(r[i+1]))
			}
		}
	}
	var b strings.Builder
	b.WriteString(tableHeader)
	line := func(r [5]string) {
		fmt.Fprintf(&b, "%-3s %-*.*s %-*.*s %-*.*s %.*s\n", r[0], w[0], w[0], r[1], w[1], w[1], r[2], w[2], w[2], r[3], w[3], r[4])
	}
	line([5]string{"||/", "Name", "Version", "Architecture", "Description"})
	fmt.Fprintf(&b, "+++-%s-%s-%s-%s\n", strings.Repeat("=", w[0]), strings.Repeat("=", w[1]), strings.Repeat("=", w[2]), strings.Repeat("=", w[3]))
	for _, r := range rows {
		line(r)
	}
	return b.String()
}

var tableRows = [][5]string{
	{"ii ", "adduser", "3.118+deb11u1", "all", "add and remove users and groups"},
	{"ii ", "binutils-x86-64-linux-gnu", "2.35.2-2", "amd64", "GNU binary utilities, for x86-64-linux-gnu target"},
	{"ii ", "dpkg", "1.20.13", "amd64", "Debian package management system"},
	{"ii ", "g++", "4:10.2.1-1", "amd64", "GNU C++ compiler"},
	{"rc ", "libgone1:amd64", "1.0-1", "amd64", "library that was removed"},
	{"ii ", "libssl1.1:amd64", "1.1.1w-0+deb11u1", "amd64", "Secure Sockets Layer toolkit - shared libraries"},
	{"ii ", "libssl1.1:i386", "1.1.1w-0+deb11u1", "i386", "Secure Sockets Layer toolkit - shared libraries"},
	{"iF ", "broken", "1.2", "all", "half-configured"},
	{"iU ", "fresh", "1.2~rc1-3", "all", "unpacked"},
	{"itR", "late", "1.2", "all", "triggers pending"},
	{"hi ", "redis-server", "5:6.0.16-1+deb11u2", "amd64", "Persistent key-value database with network interface"},
	{"un ", "unknown", "<none>", "<none>", "(no description available)"},
}

func parseList(t *testing.T, text string) map[string]snapshot.Package {
	t.Helper()
	db, err := DpkgList(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if db.System != "dpkg" || db.Architecture != "amd64" && db.Architecture != "" {
		t.Errorf("system %q, architecture %q", db.System, db.Architecture)
	}
	got := map[string]snapshot.Package{}
	for _, p := range db.Packages {
		got[p.Name+" "+p.Architecture] = p
	}
	return got
}

func TestDpkgListTable(t *testing.T) {
	whole := table(0, tableRows)
	_, bare, _ := strings.Cut(whole, "+++-")
	_, bare, _ = strings.Cut(bare, "\n")
	german := strings.Replace(whole, "Desired=Unknown", "Gewünscht=Unbekannt", 1)
	for name, text := range map[string]string{"whole": whole, "wide": table(300, tableRows), "no header": bare,
		"translated": german, "CRLF": strings.ReplaceAll(whole, "\n", "\r\n"), "BOM": "\ufeff" + whole} {
		t.Run(name, func(t *testing.T) {
			got := parseList(t, text)
			if len(got) != len(tableRows)-1 {
				t.Errorf("got %d packages of %d", len(got), len(tableRows)-1)
			}
			for key, want := range map[string][4]string{
				"adduser all":        {"3.118+deb11u1", "install", "installed", ""},
				"g++ amd64":          {"4:10.2.1-1", "install", "installed", ""},
				"libssl1.1 i386":     {"1.1.1w-0+deb11u1", "install", "installed", ""},
				"libgone1 amd64":     {"1.0-1", "deinstall", "config-files", ""},
				"broken all":         {"1.2", "install", "half-configured", ""},
				"fresh all":          {"1.2~rc1-3", "install", "unpacked", ""},
				"late all":           {"1.2", "install", "triggers-pending", "broken"},
				"redis-server amd64": {"5:6.0.16-1+deb11u2", "hold", "installed", ""},
			} {
				p := got[key]
				if p.Version != want[0] || p.Want != want[1] || p.State != want[2] || p.Broken != (want[3] != "") {
					t.Errorf("%s: got %+v", key, p)
				}
			}
		})
	}
}

// dpkg 1.16 of Debian 6 and before has no column for the architecture.
func TestDpkgListOld(t *testing.T) {
	text := tableHeader + "||/ Name           Version        Description\n" +
		"+++-==============-==============-============================================\n" +
		"ii  adduser        3.112+nmu2     add and remove users and groups\n" +
		"ii  all            1.0            all of it\n"
	got := parseList(t, text)
	if got["adduser "].Version != "3.112+nmu2" || got["all "].Version != "1.0" {
		t.Errorf("got %v", got)
	}
}

func TestDpkgListQuery(t *testing.T) {
	for name, text := range map[string]string{
		"plain":  "adduser\t3.118\nlibc6:amd64\t2.31-13+deb11u5\nknown\t\nredis-server\t5:6.0\n",
		"wide":   "adduser\t3.118\tall\tinstall ok installed\nlibc6\t2.31-13+deb11u5\tamd64\tinstall ok installed\nredis-server\t5:6.0\tamd64\thold ok installed\ngone\t1\tall\tdeinstall ok config-files\n",
		"abbrev": "ii \n"[:0] + "adduser\t3.118\tii \tall\nlibc6:amd64\t2.31-13+deb11u5\tii \tamd64\nredis-server\t5:6.0\thi \tamd64\ngone\t1\trc \tall\n",
		"spaces": "adduser 3.118 all install ok installed\nlibc6 2.31-13+deb11u5 amd64 install ok installed\nredis-server 5:6.0 amd64 hold ok installed\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := parseList(t, text)
			if name == "plain" {
				if got["adduser "].Version != "3.118" || got["libc6 amd64"].Version != "2.31-13+deb11u5" || len(got) != 3 {
					t.Errorf("got %v", got)
				}
				return
			}
			if got["adduser all"].State != "installed" || got["redis-server amd64"].Want != "hold" || got["libc6 amd64"].Version != "2.31-13+deb11u5" {
				t.Errorf("got %v", got)
			}
			if gone, ok := got["gone all"]; ok && gone.State != "config-files" {
				t.Errorf("got %v", gone)
			}
		})
	}
}

func TestDpkgListTruncated(t *testing.T) {
	narrow := table(80, tableRows)
	_, bare, _ := strings.Cut(narrow, "+++-")
	_, bare, _ = strings.Cut(bare, "\n")
	var chopped strings.Builder // as less -S shows it
	for line := range strings.Lines(table(0, tableRows)) {
		chopped.WriteString(line[:min(len(line)-1, 50)] + "\n")
	}
	for name, text := range map[string]string{
		"80 columns":     narrow,
		"100 columns":    table(100, tableRows),
		"no header":      bare,
		"chopped":        chopped.String(),
		"architecture":   "ii  libssl1.1:am  1.1.1w-0  amd64  Secure Sockets Layer\n",
		"twice":          "libreoffice-\t1\nlibreoffice-\t1\n",
		"version":        "adduser\t3.118-\n",
		"name and arch":  "libssl1.1:\t1.1.1w\n",
		"the same twice": "libfoo\t1\nlibfoo\t1\n",
		"old": tableHeader + "||/ Name           Version        Description\n" +
			"+++-==============-==============-============================================\n" +
			"ii  libgtk2.0-comm 2.20.1-2       Common files for the GTK+ graphical user in\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DpkgList(strings.NewReader(text))
			var cut *TruncatedError
			if !errors.As(err, &cut) || !strings.Contains(cut.Hint(), "COLUMNS=500 dpkg -l") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDpkgListNonsense(t *testing.T) {
	for _, text := range []string{"", "\n\n", "hello\n", "a b c d e\n", "bash\t5.1\tamd64\tinstall ok\n", "../etc\t1\n", "b\x00sh\t1\n",
		"bash\t5.1/../x\n", "bash\t1\tall\tinstall ok weird\n", tableHeader + "+++-====-===\nnonsense\n", "-rf\t1\n"} {
		if db, err := DpkgList(strings.NewReader(text)); err == nil {
			t.Errorf("%q gave %v", text, db.Packages)
		}
	}
}

func FuzzDpkgList(f *testing.F) {
	f.Add(table(0, tableRows))
	f.Add(table(80, tableRows))
	f.Add("adduser\t3.118\tall\tinstall ok installed\nlibc6:amd64\t2.31\n")
	f.Add("ii  bash 5.1 amd64 shell\n")
	f.Fuzz(func(t *testing.T, text string) {
		db, err := DpkgList(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range db.Packages {
			if p.Name == "" || p.Version == "" || strings.ContainsAny(p.Name+p.Version+p.Architecture, " \t\n/\x00") || p.State == "" || p.Want == "" {
				t.Errorf("%q gave %+v", text, p)
			}
		}
	})
}
