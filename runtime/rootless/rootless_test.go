package rootless

import (
	"slices"
	"strings"
	"testing"
)

func TestLayOut(t *testing.T) {
	for _, test := range []struct {
		own    uint32
		ranges []Range
		want   []span
	}{
		{1000, []Range{{100000, 65536}}, []span{{0, 100000, 1000}, {1000, 1000, 1}, {1001, 101001, 64535}}},
		{0, []Range{{100000, 10}}, []span{{0, 0, 1}, {1, 100001, 9}}},
		{9, []Range{{100000, 10}}, []span{{0, 100000, 9}, {9, 9, 1}}},
		{10, []Range{{100000, 10}}, []span{{0, 100000, 10}, {10, 10, 1}}},
		{10, []Range{{100000, 10}, {300000, 10}}, []span{{0, 100000, 10}, {10, 10, 1}, {11, 300001, 9}}},
		{1234567, []Range{{100000, 65536}}, []span{{0, 100000, 65536}, {1234567, 1234567, 1}}},
	} {
		if got := layOut(test.own, test.ranges); !slices.Equal(got, test.want) {
			t.Errorf("%d in %v: %v, want %v", test.own, test.ranges, got, test.want)
		}
	}
}

func TestRanges(t *testing.T) {
	const file = "# a comment\nother:100000:65536\ndev:165536:65536\n1000:300000:10\ndev:x:1\ndev:1:0\ndev:4294967295:2\n:5:5\ndev:5\n"
	for _, test := range []struct {
		name string
		uid  uint32
		want []Range
	}{
		{"dev", 7, []Range{{165536, 65536}}},
		{"dev", 1000, []Range{{165536, 65536}, {300000, 10}}},
		{"", 5, nil},
	} {
		got, err := ParseRanges(strings.NewReader(file), test.name, test.uid)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q, %d: %v, %v, want %v", test.name, test.uid, got, err, test.want)
		}
	}
	if got := parseGetsubids([]byte("0: dev 100000 65536\n1: dev 300000 5\nError\n")); !slices.Equal(got, []Range{{100000, 65536}, {300000, 5}}) {
		t.Errorf("from getsubids: %v", got)
	}
	for conf, want := range map[string]bool{"": false, "passwd: files\n": false, "subid: files\n": false, "subid:\tsss # x\n": true} {
		if got := elsewhere([]byte(conf)); got != want {
			t.Errorf("nsswitch.conf %q: %v", conf, got)
		}
	}
}

// What is laid out maps no id inside twice, whatever the file says.
func FuzzRanges(f *testing.F) {
	f.Add("dev:100000:65536\ndev:165536:1\n", uint32(1000))
	f.Add("dev:0:4294967295\ndev:5:5\n", uint32(3))
	f.Fuzz(func(t *testing.T, file string, own uint32) {
		ranges, err := ParseRanges(strings.NewReader(file), "dev", own)
		if err != nil || checkRanges(ranges, false, own, "dev") != nil {
			return
		}
		next := uint64(0)
		for _, s := range layOut(own, ranges) {
			if uint64(s.inside) < next || s.count == 0 || uint64(s.inside)+uint64(s.count) > 1<<32 {
				t.Errorf("%v are laid out as %v", ranges, layOut(own, ranges))
			}
			next = uint64(s.inside) + uint64(s.count)
		}
	})
}
