"""The first day of a term, in an event loop: python -m examples.courses [URL]."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from examples.courses.commands import change_capacity, change_title, define_course, move, subscribe, unsubscribe
from examples.courses.courses import StudentSubscribed, StudentUnsubscribed, seats, timetables, titles
from examples.courses.errors import CourseError
from examples.running import run
from factfold import AsyncStore

COURSES = {
    f"{subject}-{level}": f"{subject.title()} {level}" for subject in ("logic", "music") for level in range(1, 8)
}
STUDENTS = ("ann", "bo", "cleo", "dora", "emil", "finn", "gita", "hugo")


async def tell(url: str) -> None:
    """Tells what happens on a store at this url."""
    async with AsyncStore(url) as store:
        await asyncio.gather(*(store.execute(define_course, id, title, 6) for id, title in COURSES.items()))
        print(f"{len(COURSES)} courses of 6 seats each; {len(STUDENTS)} students want all of them, at once")

        refusals = Counter[str]()

        async def try_to_subscribe(course: str, student: str) -> None:
            try:
                await store.execute(subscribe, course, student)
            except CourseError as refusal:
                refusals[type(refusal).__name__] += 1

        # Some clicks come twice, as clicks do.
        wishes = [(course, student) for course in COURSES for student in STUDENTS] * 2
        await asyncio.gather(*(try_to_subscribe(*wish) for wish in wishes))
        print(f"refused: {', '.join(f'{number} {why}' for why, number in sorted(refusals.items()))}\n")

        for id in COURSES:
            there = await store.state(seats(id))
            print(f"  {await store.state(titles(id)):8}  {there.taken} of {there.capacity} seats")
        for student in STUDENTS:
            print(f"  {student:8}  {len(await store.state(timetables(student)))} courses")

        taken = await store.state(timetables("ann"))
        source, target = min(taken), max(set(COURSES) - taken)
        await store.execute(change_title, target, "Listening")
        await store.execute(change_capacity, target, 8)
        await store.execute(move, "ann", source, target)
        leaver = min(await store.state(timetables("bo")))
        await store.execute(unsubscribe, leaver, "bo")
        print(f"\nann moves from {source} to {target}, which has 8 seats now, and bo leaves {leaver}")
        print("\nThe end of the log; each of these is one event in two streams:")
        newest = [
            one async for one in store.log(types=StudentSubscribed | StudentUnsubscribed, limit=3, backwards=True)
        ]
        for recorded in reversed(newest):
            print(f"{recorded.position:5}  {dict(recorded.streams)}  {recorded.type}")


def main(url: str) -> None:
    """The same, in an event loop of its own."""
    asyncio.run(tell(url))


if __name__ == "__main__":
    sys.exit(run("courses", main, "Students subscribe to courses, more of them than there are seats."))
