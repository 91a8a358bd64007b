"""Children that go wrong in place of service.registration.files.dicom.child.

`WARPLINE_TEST_CHILD` says how; the process id goes to the file `WARPLINE_TEST_PID`.
"""

import json
import os
import sys
import time
from pathlib import Path

from service.registration.files.dicom import earning
from service.registration.files.dicom.limited import end_with_parent, limit, own_output


def main() -> None:
    """Misbehave as asked."""
    request = json.load(sys.stdin)
    told = Path(os.environ["WARPLINE_TEST_PID"])
    told.with_suffix(".part").write_text(str(os.getpid()))
    told.with_suffix(".part").rename(told)  # who sees it can read it
    end_with_parent(request["parent"])
    how = os.environ["WARPLINE_TEST_CHILD"]
    limit(0, 1 if how == "spin" else 60, 1)
    if how == "sleep":
        time.sleep(600)
    if how == "hang":
        with own_output() as output:
            earning.tell_to(output)
            earning.begun()
            time.sleep(600)
    while how == "spin":
        pass
    if how == "eat":
        held = [bytes(64 << 20) for _ in range(1000)]
        raise SystemExit(len(held))
    if how == "print":
        with own_output() as output:
            os.write(1, b"a decoder talks")
            os.write(2, b"and complains")
            output.write('{"heard": "me"}')
    if how == "die":
        os.abort()


if __name__ == "__main__":
    main()
