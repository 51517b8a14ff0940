"""For each rule: a project that it finds something in, and its twin in which it finds nothing.

The lines that a finding has to be about end with the mark. ``{}`` twins of findings without
a place of their own are about the line with the app.
"""

from __future__ import annotations

from dataclasses import dataclass

from lambda_celery.check.model import Grade


@dataclass(frozen=True)
class Case:
    """A pair of projects.

    :ivar pyproject: the stanza of the bad one.
    """

    rule: str
    bad: str
    good: str
    grade: Grade = Grade.AMBER
    pyproject: str = ""
    good_pyproject: str = ""


CALL_COMMAND = "from django.core.management import call_command"
RECEIVER = (
    "from django.contrib.auth.signals import user_logged_in\n"
    "from django.db.models.signals import post_save\nfrom django.dispatch import receiver\n"
)
TASK = "@app.task\ndef f(x=None):\n    {}\n"


def body(line: str, imports: str = "") -> str:
    """Return a project with a task that does *line*."""
    indented = line.replace("\n", "\n    ")
    return f"{imports}\n" + TASK.format(indented)


CASES = [
    # durations
    Case(
        "time-limit",
        "@app.task(time_limit=3600)  # here\ndef f(): pass",
        "@app.task(time_limit=600)\ndef f(): pass",
        Grade.RED,
    ),
    Case(
        "time-limit",
        "app.conf.task_soft_time_limit = 1800  # here",
        "app.conf.task_soft_time_limit = 800",
        Grade.RED,
    ),
    Case(
        "time-limit",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(time_limit=1000)  # here",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(time_limit=10)",
        Grade.RED,
    ),
    Case(
        "limit-order",
        "@app.task(soft_time_limit=60, time_limit=60)  # here\ndef f(): pass",
        "@app.task(soft_time_limit=50, time_limit=60)\ndef f(): pass",
    ),
    Case(
        "long-sleep",
        body("time.sleep(60)  # here", "import time"),
        body("time.sleep(1)", "import time"),
    ),
    Case(
        "long-sleep",
        body("sleep(PAUSE)  # here", "from time import sleep\nPAUSE = 20 * 60"),
        body("sleep(PAUSE)", "from time import sleep\nPAUSE = 2"),
        Grade.RED,
    ),
    Case(
        "polling-loop",
        body("while not x.done():  # here\n    time.sleep(1)", "import time"),
        body("for each in x: each()", "import time"),
    ),
    Case(
        "polling-loop",
        body("while True:  # here\n    x()"),
        body("while True:\n    if x(): break"),
    ),
    Case(
        "no-timeout",
        body("http.get('https://example.com')  # here", "import requests as http"),
        body("http.get('https://example.com', timeout=5)", "import requests as http"),
    ),
    Case(
        "no-timeout",
        body("urlopen('https://example.com')  # here", "from urllib.request import urlopen"),
        body("urlopen('https://example.com', None, 5)", "from urllib.request import urlopen"),
    ),
    # state
    Case(
        "module-state",
        "SEEN = {}\n" + body("SEEN[x] = 1  # here"),
        "SEEN = {}\n" + body("SEEN = {}\nSEEN[x] = 1"),
    ),
    Case(
        "module-state",
        "SEEN = []\n" + body("SEEN.append(x)  # here"),
        "SEEN = []\n" + body("return SEEN.index(x)"),
    ),
    Case(
        "module-state",
        "COUNT = 0\n" + body("global COUNT\nCOUNT += 1  # here"),
        "COUNT = 0\n" + body("return COUNT + 1"),
    ),
    Case(
        "task-state",
        "@app.task(bind=True)\ndef f(self):\n    self.client = object()  # here",
        "@app.task(bind=True)\ndef f(self):\n    client = self.request.id",
    ),
    Case(
        "task-state",
        "from celery import Task\nclass T(Task):\n    name = 't'\n    def run(self):\n"
        "        self.data = 1  # here\napp.register_task(T())",
        "from celery import Task\nclass T(Task):\n    name = 't'\n    data = None\n"
        "    def run(self):\n        return self.data\napp.register_task(T())",
    ),
    Case(
        "process-state",
        body("os.environ['HOME'] = '/tmp'  # here", "import os"),
        body("os.environ['HOME']", "import os"),
    ),
    Case(
        "process-state",
        body("os.chdir('/tmp')  # here", "import os"),
        body("os.getcwd()", "import os"),
    ),
    Case(
        "cached-function",
        "from functools import lru_cache\n@lru_cache\ndef g(): pass  # here\n" + body("g()"),
        "def g(): pass\n" + body("g()"),
        Grade.GREEN,
    ),
    # files
    Case(
        "local-file",
        body("with open('report.csv', 'w') as f:  # here\n    f.write('x')"),
        body("with open('report.csv') as f:\n    f.read()"),
        Grade.RED,
    ),
    Case(
        "local-file",
        body("Path(x).write_text('')  # here", "from pathlib import Path"),
        body(
            "with TemporaryDirectory() as d:\n    (Path(d) / x).write_text('')",
            "from pathlib import Path\nfrom tempfile import TemporaryDirectory",
        ),
    ),
    Case(
        "local-file",
        body("os.makedirs(os.path.join('out', x))  # here", "import os"),
        body("os.makedirs(os.path.join('/tmp/out', x))", "import os"),
    ),
    Case(
        "local-file",
        body("shutil.copy(x, '/srv/files')  # here", "import shutil"),
        body("shutil.copy(x, tempfile.mkdtemp())", "import shutil, tempfile"),
        Grade.RED,
    ),
    Case(
        "local-file",
        body("zipfile.ZipFile(x, 'w')  # here", "import zipfile"),
        body("zipfile.ZipFile(io.BytesIO(), 'w')", "import io, zipfile"),
    ),
    Case(
        "local-file",
        body("x.to_csv('out.csv')  # here"),
        body("x.to_csv()"),
        Grade.RED,
    ),
    Case(
        "shared-tmp",
        body("open('/tmp/state.json').read()  # here"),
        body("tempfile.TemporaryFile()", "import tempfile"),
    ),
    Case(
        "local-path",
        body("open(settings.MEDIA_ROOT + x)  # here", "from django.conf import settings"),
        body("x.MEDIA_ROOT"),
    ),
    Case(
        "local-path",
        body("zipfile.ZipFile(x.file.path)  # here", "import zipfile"),
        body("zipfile.ZipFile(x.file.open())", "import zipfile"),
    ),
    Case(
        "file-lock",
        body("fcntl.flock(x, fcntl.LOCK_EX)  # here", "import fcntl"),
        body("fcntl.fcntl(x, fcntl.F_GETFL)", "import fcntl"),
        Grade.RED,
    ),
    # processes
    Case(
        "subprocess",
        body("run(['ffmpeg', '-version'])  # here", "from subprocess import run"),
        body("subprocess.list2cmdline([x])", "import subprocess"),
    ),
    Case(
        "subprocess", body("os.system('ls')  # here", "import os"), body("os.getpid()", "import os")
    ),
    Case(
        "binary",
        body("pdfkit.from_string(x)  # here", "try: import pdfkit\nexcept ImportError: pass"),
        body("json.dumps(x)", "import json"),
    ),
    Case(
        "multiprocessing",
        body("Pool(4).map(print, x)  # here", "from multiprocessing import Pool"),
        body("cpu_count()", "from multiprocessing import cpu_count"),
        Grade.RED,
    ),
    Case(
        "multiprocessing",
        body("ProcessPoolExecutor()  # here", "from concurrent.futures import ProcessPoolExecutor"),
        body(
            "with ThreadPoolExecutor() as pool: pool.submit(x)",
            "from concurrent.futures import ThreadPoolExecutor",
        ),
        Grade.RED,
    ),
    Case(
        "multiprocessing",
        body("multiprocessing.Process(target=x)  # here", "import multiprocessing"),
        body("multiprocessing.current_process()", "import multiprocessing"),
    ),
    Case(
        "thread",
        body("Thread(target=x).start()  # here", "from threading import Thread"),
        body("t = Thread(target=x)\nt.start()\nt.join()", "from threading import Thread"),
    ),
    Case(
        "thread",
        body(
            "pool = ThreadPoolExecutor()  # here\npool.submit(x)",
            "from concurrent.futures import ThreadPoolExecutor",
        ),
        body(
            "with ThreadPoolExecutor() as pool:\n    pool.submit(x)",
            "from concurrent.futures import ThreadPoolExecutor",
        ),
    ),
    Case(
        "process-end",
        body("os._exit(1)  # here", "import os"),
        body("raise ValueError"),
    ),
    Case(
        "process-end",
        body("signal.signal(signal.SIGTERM, x)  # here", "import signal"),
        body("signal.signal(signal.SIGALRM, x)", "import signal"),
    ),
    Case(
        "management-command",
        body(
            "call_command('collectstatic')  # here",
            CALL_COMMAND,
        ),
        body("call_command('clearsessions')", CALL_COMMAND),
        Grade.RED,
    ),
    Case(
        "management-command",
        body("call_command('import_all')  # here", CALL_COMMAND),
        body("call_command('clearsessions')", CALL_COMMAND),
    ),
    # results
    Case(
        "result-in-task",
        "@app.task\ndef g(): pass\n" + body("r = g.delay()\nr.get()  # here"),
        "@app.task\ndef g(): pass\n" + body("g.delay()\n{}.get(x)"),
        Grade.RED,
    ),
    Case(
        "result-in-task",
        "from celery import group\n@app.task\ndef g(): pass\n"
        + body("group(g.s() for _ in 'ab')().join()  # here"),
        "from celery import group\n@app.task\ndef g(): pass\n" + body("''.join(x)"),
        Grade.RED,
    ),
    Case(
        "result-in-task",
        "from celery.result import AsyncResult, allow_join_result\n"
        + body("with allow_join_result():\n    AsyncResult(x).get()  # here"),
        "from celery.result import AsyncResult\n" + body("return AsyncResult(x).id"),
    ),
    Case(
        "result-backend",
        "app.conf.result_backend = 'rpc://'  # here",
        "app.conf.result_backend = 'redis://results.example.com/0'",
        Grade.RED,
    ),
    Case(
        "result-backend",
        "app.conf.result_backend = 'redis://localhost/0'  # here",
        "app.conf.result_backend = None",
    ),
    Case(
        "result-backend",
        "app.conf.result_backend = 'db+sqlite:///results.db'  # here",
        "app.conf.result_backend = 'db+postgresql://db.example.com/results'",
        Grade.RED,
    ),
    Case(
        "chord",
        "from celery import chord\n@app.task\ndef f(): pass\n"
        "def v(): chord([f.s()])(f.s())  # here",
        "from celery import group\n@app.task\ndef f(): pass\ndef v(): group([f.s()])()",
        Grade.RED,
    ),
    Case(
        "chord",
        "app.conf.result_backend = 'redis://r.example.com'\nfrom celery import group\n"
        "@app.task(ignore_result=True)\ndef f(): pass\n"
        "def v(): (group(f.s() for _ in 'ab') | f.s()).delay()  # here",
        "app.conf.result_backend = 'redis://r.example.com'\nfrom celery import group\n"
        "@app.task\ndef f(): pass\ndef v(): (group(f.s() for _ in 'ab') | f.s()).delay()",
    ),
    # a worker
    Case(
        "bootstep",
        "from celery import bootsteps\nclass Step(bootsteps.StartStopStep): pass  # here\n"
        "app.steps['worker'].add(Step)",
        "",
    ),
    Case(
        "worker-signal",
        "from celery.signals import worker_ready\n@worker_ready.connect  # here\n"
        "def ready(**kwargs): pass",
        "from celery.signals import worker_process_init\n@worker_process_init.connect\n"
        "def ready(**kwargs): pass",
    ),
    Case(
        "remote-control",
        body("app.control.inspect().active()  # here"),
        body("app.control.revoke(x)"),
        Grade.RED,
    ),
    Case(
        "remote-control",
        "def v(): app.control.revoke('id', terminate=True)  # here",
        "def v(): app.control.revoke('id')",
    ),
    Case(
        "events",
        "app.conf.worker_send_task_events = True  # here",
        "app.conf.worker_send_task_events = False",
    ),
    Case(
        "events",
        "@app.task(bind=True)\ndef f(self):\n    self.send_event('task-half')  # here",
        "@app.task(bind=True)\ndef f(self):\n    self.update_state(state='HALF')",
    ),
    Case(
        "worker-request",
        "from celery.worker.request import Request\nclass Own(Request): pass\n"
        "@app.task(Request=Own)\ndef f(): pass  # here",
        "@app.task\ndef f(): pass",
    ),
    Case(
        "worker-setting",
        "app.conf.worker_direct = True  # here",
        "app.conf.worker_direct = False",
        Grade.RED,
    ),
    Case(
        "worker-setting",
        "app.conf.worker_max_tasks_per_child = 5  # here",
        "",
        Grade.GREEN,
    ),
    # the broker
    Case(
        "priority",
        "@app.task(priority=5)  # here\ndef f(): pass",
        "app.conf.lambda_priority_queues = {'celery': {5: 'urgent'}}\n"
        "@app.task(priority=5)\ndef f(): pass",
        Grade.RED,
    ),
    Case(
        "priority",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(priority=9)  # here",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(priority=0)",
        Grade.RED,
    ),
    Case(
        "priority",
        "app.conf.task_default_priority = 3  # here",
        "app.conf.task_default_priority = None",
        Grade.RED,
    ),
    Case(
        "route",
        "@app.task(exchange='news', routing_key='x', exchange_type='topic')  # here\ndef f(): pass",
        "@app.task(queue='news')\ndef f(): pass",
        Grade.RED,
    ),
    Case(
        "priority",
        "app.conf.task_routes = {'f': {'priority': 4}}\n@app.task(name='f')\ndef f(): pass  # here",
        "app.conf.task_routes = {'f': {'queue': 'q'}}\n@app.task(name='f')\ndef f(): pass",
        Grade.RED,
    ),
    Case(
        "queue-url",
        "app.conf.lambda_queues = {'mail': 'https://example.com/mail'}\n"
        "@app.task(queue='news')  # here\ndef f(): pass",
        "app.conf.lambda_queues = {'mail': 'https://example.com/mail'}\n"
        "@app.task(queue='mail')\ndef f(): pass",
        Grade.RED,
    ),
    Case(
        "transport-options",
        "app.conf.broker_transport_options = {'queue_order_strategy': 'priority'}  # here",
        "app.conf.broker_transport_options = {'region': 'eu-west-1'}",
    ),
    Case(
        "broadcast",
        "from kombu.common import Broadcast\napp.conf.task_queues = (Broadcast('all'),)  # here",
        "from kombu import Queue\napp.conf.task_queues = (Queue('mail'),)",
        Grade.RED,
    ),
    Case(
        "broadcast",
        "from kombu import Queue\n"
        "app.conf.task_queues = (Queue('m', queue_arguments={'x-message-ttl': 1}),)  # here",
        "from kombu import Queue\napp.conf.task_queues = (Queue('mail'),)",
    ),
    Case(
        "delivery-info",
        "@app.task(bind=True)\ndef f(self):\n    return self.request.delivery_info  # here",
        "@app.task(bind=True)\ndef f(self):\n    return self.request.retries",
    ),
    Case(
        "broker-connection",
        body("app.connection_for_write()  # here"),
        body("app.send_task(x)"),
    ),
    # calling
    Case(
        "countdown",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(countdown=86400)  # here",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(countdown=600)",
    ),
    Case(
        "countdown",
        "app.conf.lambda_queue_url = 'https://example.com/1/mail.fifo'\n"
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(countdown=60)  # here",
        "app.conf.lambda_queue_url = 'https://example.com/1/mail'\n"
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(countdown=60)",
        Grade.RED,
    ),
    Case(
        "countdown",
        "from datetime import datetime, timedelta\n@app.task\ndef f(): pass\n"
        "def v(): f.apply_async(eta=datetime.now() + timedelta(days=400))  # here",
        "from datetime import datetime, timedelta\n@app.task\ndef f(): pass\n"
        "def v(): f.apply_async(eta=datetime.now() + timedelta(minutes=4))",
        Grade.RED,
    ),
    Case(
        "countdown",
        "@app.task(bind=True)\ndef f(self):\n    raise self.retry(countdown=3600)  # here",
        "@app.task(bind=True)\ndef f(self):\n    raise self.retry(countdown=60)",
        Grade.GREEN,
    ),
    Case(
        "expires",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(expires=30, countdown=60)  # here",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(expires=None, countdown=60)",
        Grade.RED,
    ),
    Case(
        "expires",
        "@app.task(expires=600)  # here\ndef f(): pass",
        "@app.task\ndef f(): pass",
        Grade.GREEN,
    ),
    Case(
        "rate-limit",
        "@app.task(rate_limit='10/m')  # here\ndef f(): pass",
        "@app.task(rate_limit=None)\ndef f(): pass",
    ),
    Case(
        "rate-limit",
        "app.conf.lambda_queue_url = 'https://example.com/1/mail.fifo'\n"
        "@app.task(rate_limit='10/m')  # here\ndef f(): pass",
        "app.conf.lambda_queue_url = 'https://example.com/1/mail.fifo'\n@app.task\ndef f(): pass",
        Grade.RED,
    ),
    Case(
        "unknown-option",
        "@app.task(time_limt=60)  # here\ndef f(): pass",
        "@app.task(time_limit=60, own='x')\ndef f(): pass",
    ),
    Case(
        "unknown-option",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(coutdown=3)  # here",
        "@app.task\ndef f(): pass\ndef v(): f.apply_async(countdown=3)",
    ),
    Case(
        "retry-policy",
        "@app.task(autoretry_for=(OSError,), max_retries=None)  # here\ndef f(): pass",
        "@app.task(autoretry_for=(OSError,), max_retries=5)\ndef f(): pass",
    ),
    Case(
        "retry-policy",
        "@app.task(max_retries=10**6)  # here\ndef f(): pass",
        "@app.task\ndef f(): pass",
        Grade.RED,
    ),
    Case(
        "object-argument",
        "@app.task\ndef f(x): pass\ndef v(User):\n    user = User.objects.get(pk=1)\n"
        "    f.delay(user)  # here",
        "@app.task\ndef f(x): pass\ndef v(User):\n    user = User.objects.get(pk=1)\n"
        "    f.delay(user.pk)",
    ),
    Case(
        "object-argument",
        "@app.task\ndef f(x): pass\ndef v(request):\n"
        "    f.apply_async(args=[request.FILES['x']])  # here",
        "@app.task\ndef f(x): pass\ndef v(request):\n    f.apply_async(args=[request.path])",
    ),
    # serialization
    Case(
        "serializer",
        "@app.task(serializer='yaml')  # here\ndef f(): pass",
        "app.conf.accept_content = ['json', 'yaml']\n@app.task(serializer='yaml')\ndef f(): pass",
        Grade.RED,
    ),
    Case(
        "serializer",
        "app.conf.task_serializer = 'pickle'  # here",
        "app.conf.task_serializer = 'json'",
        Grade.RED,
    ),
    Case(
        "pickle",
        "app.conf.accept_content = ['json', 'pickle']  # here",
        "app.conf.accept_content = ['json']",
    ),
    Case(
        "compression",
        "app.conf.task_compression = 'zstd'  # here",
        "app.conf.task_compression = 'gzip'",
        Grade.RED,
    ),
    # packages
    Case(
        "once-lock",
        "from celery_once import QueueOnce\n@app.task(base=QueueOnce)\ndef f(): pass  # here",
        "@app.task\ndef f(): pass",
    ),
    Case(
        "once-lock",
        "from celery_singleton import Singleton\n@app.task(base=Singleton)\ndef f(): pass  # here",
        "@app.task\ndef f(): pass",
    ),
    Case(
        "held-lock",
        body("cache.add(x, 1)  # here", "from django.core.cache import cache"),
        body("cache.get(x)", "from django.core.cache import cache"),
    ),
    Case(
        "held-lock",
        body("with redis_client.lock('x'): pass  # here", "redis_client = None"),
        body("x.block()"),
    ),
    # acknowledgement
    Case(
        "early-ack",
        body("send_mail('a', 'b', 'c', ['d'])  # here", "from django.core.mail import send_mail"),
        "from django.core.mail import send_mail\n@app.task(acks_late=True)\n"
        "def f(): send_mail('a', 'b', 'c', ['d'])",
    ),
    Case(
        "early-ack",
        body("x.objects.create(name='a')  # here"),
        "@app.task(reject_on_worker_lost=False)\ndef f(x): x.objects.create(name='a')",
    ),
    # schedules
    Case(
        "beat-entry",
        "@app.task(name='f')\ndef f(): pass\n"
        "app.conf.beat_schedule = {'x': {'task': 'f', 'schedule': 60}}  # here",
        "app.conf.beat_schedule = {}",
    ),
    Case(
        "beat-entry",
        "@app.task(name='f')\ndef f(): pass\n"
        "app.conf.beat_schedule = {'x': {'task': 'f', 'schedule': 5}}  # here",
        "app.conf.beat_schedule = {}",
        Grade.RED,
    ),
    Case(
        "beat-scheduler",
        "app.conf.beat_scheduler = 'redbeat.RedBeatScheduler'  # here",
        "app.conf.beat_scheduler = 'celery.beat:PersistentScheduler'",
    ),
    # transactions
    Case(
        "publish-in-transaction",
        "from django.db import transaction\n@app.task\ndef f(x): pass\n"
        "def v(x):\n    with transaction.atomic():\n        x.save()\n"
        "        f.delay(x.pk)  # here",
        "from django.db import transaction\n@app.task\ndef f(x): pass\n"
        "def v(x):\n    with transaction.atomic():\n        x.save()\n"
        "        transaction.on_commit(lambda: f.delay(x.pk))\n    f.delay(x.pk)",
    ),
    Case(
        "publish-in-transaction",
        "from django.db.transaction import atomic\n@app.task\ndef f(x): pass\n"
        "@atomic\ndef v(x):\n    f.apply_async(args=[x.pk])  # here",
        "from django.db.transaction import atomic, on_commit\n@app.task\ndef f(x): pass\n"
        "@atomic\ndef v(x):\n    def send(): f.delay(x.pk)\n    on_commit(send)",
    ),
    Case(
        "publish-in-transaction",
        "class AuditedModel: pass\n@app.task\ndef f(x): pass\nclass Order(AuditedModel):\n"
        "    def save(self, **kwargs):\n        f.delay(1)  # here",
        "@app.task\ndef f(x): pass\nclass Order:\n"
        "    def save(self, **kwargs):\n        f.delay(1)",
    ),
    Case(
        "publish-in-transaction",
        f"{RECEIVER}@app.task\ndef f(x): pass\n@receiver([post_save])\n"
        "def saved(instance, **kwargs):\n    f.delay(instance.pk)  # here",
        f"{RECEIVER}@app.task\ndef f(x): pass\n@receiver(user_logged_in)\n"
        "def saved(user, **kwargs):\n    f.delay(user.pk)",
    ),
    Case(
        "publish-in-transaction",
        "from django.db.models import signals\n@app.task\ndef f(x): pass\n"
        "def saved(instance, **kwargs):\n    f.delay(instance.pk)  # here\n"
        "signals.post_save.connect(saved)",
        "from django.db.models import signals\n@app.task\ndef f(x): pass\n"
        "def saved(instance, **kwargs):\n    f.delay_on_commit(instance.pk)\n"
        "signals.post_save.connect(saved)",
    ),
    Case(
        "publish-in-transaction",
        "@app.task\ndef f(x): pass\nclass Orders:\n"
        "    def save_model(self, request, obj, form, change):\n        f.delay(obj.pk)  # here",
        "@app.task\ndef f(x): pass\nclass Orders:\n"
        "    def save_model(self, request, obj, form, change):\n"
        "        with batch_on_commit(): f.delay(obj.pk)",
    ),
    # loops
    Case(
        "self-call",
        body("if x:\n    f.delay(x - 1)  # here"),
        "@app.task\ndef g(x): pass\n" + body("if x:\n    g.delay(x - 1)"),
    ),
    Case(
        "self-call",
        "@app.task(bind=True)\ndef f(self):\n    work = self.apply_async()  # here",
        "@app.task(bind=True)\ndef f(self):\n    raise self.retry()",
        Grade.RED,
    ),
    Case(
        "self-call",
        "@app.task(bind=True)\ndef f(self):\n    self.apply_async(countdown=60)  # here",
        "@app.task\ndef f(other): other.apply_async()",
    ),
    Case(
        "self-call",
        "def onward(x): f.delay(x)  # here\n@app.task\ndef f(x): onward(x)",
        "def onward(x): f.delay(x)\n@app.task\ndef f(x): pass",
    ),
    Case(
        "self-call",
        "@app.task\ndef g(x):\n    f.si(x)()  # here\n" + body("g.delay(x)  # here"),
        "@app.task\ndef g(x): pass\n" + body("g.delay(x)"),
    ),
    # settings
    Case(
        "unknown-setting",
        "app.conf.task_time_limt = 60  # here",
        "app.conf.update(task_time_limit=60, own_setting=1)",
    ),
    Case(
        "unknown-setting",
        "app.conf.lambda_queue_ulr = 'https://example.com'  # here",
        "app.conf.lambda_queue_url = 'https://example.com'",
        Grade.RED,
    ),
    Case(
        "unknown-setting",
        "",
        "",
        Grade.RED,
        "[tool.lambda-celery]\ntimeuot = 60  # here\n",
        "[tool.lambda-celery]\ntimeout = 60\n",
    ),
    Case(
        "refused-setting",
        "app.conf.lambda_queue_url = 'mail'",
        "app.conf.lambda_queue_url = 'https://example.com/mail'",
        Grade.RED,
    ),
    Case(
        "always-eager",
        "app.conf.task_always_eager = True  # here",
        "app.conf.task_always_eager = False",
    ),
    Case(
        "function-limits",
        "",
        "",
        Grade.RED,
        "[tool.lambda-celery]\ntimeout = 1000  # here\n",
        "[tool.lambda-celery]\ntimeout = 900\n",
    ),
    Case(
        "function-limits",
        "@app.task(time_limit=120)\ndef f(): pass  # here",
        "@app.task(time_limit=120)\ndef f(): pass",
        Grade.RED,
        "[tool.lambda-celery]\ntimeout = 60\n",
        "[tool.lambda-celery]\ntimeout = 150\n",
    ),
    Case(
        "function-limits",
        "",
        "",
        Grade.RED,
        "[tool.lambda-celery]\nmaximum_concurrency = 5  # here\n"
        "provisioned_pollers = {minimum = 2, maximum = 4}\n",
        "[tool.lambda-celery]\nmaximum_concurrency = 5\n",
    ),
    Case(
        "record-life",
        "app.conf.lambda_idempotency_ttl_seconds = 3600  # here",
        "app.conf.lambda_idempotency_ttl_seconds = 23 * 86400",
    ),
    Case(
        "backoff-order",
        "app.conf.lambda_retry_backoff_seconds = 900  # here",
        "app.conf.lambda_retry_backoff_seconds = 9",
    ),
    # reading
    Case(
        "unreadable-task",
        "names = {}\nexec('def g(): pass', names)\nf = app.task(name='g')(names['g'])",
        "@app.task\ndef f(): pass",
    ),
    Case(
        "unfollowed-call",
        body("from missing_package import work\nwork()  # here"),
        body("from json import dumps\ndumps(x)"),
    ),
    Case(
        "dynamic-call",
        body("getattr(json, x)()  # here", "import json"),
        body("getattr(json, 'dumps')(x)", "import json"),
    ),
    Case(
        "dynamic-call",
        body("import_module(x)  # here", "from importlib import import_module"),
        body("getattr(x, x)"),
    ),
    Case(
        "unregistered-task",
        "def later():\n    @app.task\n    def f(): pass  # here",
        "@app.task\ndef f(): pass",
    ),
]
