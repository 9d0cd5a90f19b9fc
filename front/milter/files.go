// SPDX-License-Identifier: BSD-2-Clause

package milter

import "syscall"

// filesApart are the open files kept for everything but milter connections:
// backends, stores, logs.
const filesApart = 1024

// connectionLimit raises the limit of open files as far as Config.Connections needs,
// and gives the number of connections that it allows.
func (s *Server) connectionLimit() int64 {
	want := int64(s.config.Connections)
	files, err := raiseFileLimit(uint64(want) + filesApart)
	if err != nil {
		s.log.Warn("limit of open files unknown", "error", err)
		return want
	}
	allowed := int64(files) - min(filesApart, int64(files)/4)
	if allowed < want {
		s.log.Warn("the limit of open files allows fewer milter connections than configured: raise it (LimitNOFILE in the unit, ulimit -n in a shell) or lower [milter] connections",
			"connections", allowed, "configured", want, "files", files)
		return allowed
	}
	return want
}

// raiseFileLimit has at least want files allowed if that is possible, and reports
// how many are.
func raiseFileLimit(want uint64) (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	before := min(uint64(limit.Cur), 1<<40)
	if before >= want {
		return before, nil
	}
	hard := uint64(limit.Max)
	for _, try := range []struct{ soft, hard uint64 }{
		{want, max(want, hard)}, // above the hard limit needs a privilege
		{min(want, hard), hard},
	} {
		setLimit(&limit.Cur, try.soft)
		setLimit(&limit.Max, try.hard)
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
			return try.soft, nil
		}
	}
	return before, nil
}

// setLimit assigns a limit, whose type differs from system to system.
func setLimit[T int64 | uint64](limit *T, value uint64) { *limit = T(value) }
