package rootless

// The two halves of Subordinate, for telling about both.

// CheckRanges reports why this user's subordinate ids are of no use, or nil.
func CheckRanges() error {
	name, uid, gid := account()
	for i, file := range []string{"/etc/subuid", "/etc/subgid"} {
		ranges, err := rangesOf(file, name, uid)
		if err != nil {
			return problem("reading "+file, err, "")
		}
		if err := checkRanges(ranges, i == 1, []uint32{uid, gid}[i], name); err != nil {
			return err
		}
	}
	return nil
}

// CheckTools reports why newuidmap and newgidmap can't do their work, or nil.
func CheckTools() error { return checkTools() }
