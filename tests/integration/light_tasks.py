"""`python -m tests.integration.light_tasks PID`: a Celery worker with light work."""

from tests.integration.light import main

if __name__ == "__main__":
    main("tasks")
